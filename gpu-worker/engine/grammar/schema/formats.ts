/** The values of `format` that are honoured (those of OpenAI's strict mode), as patterns whose every match is valid. */

// February has 28 days here: whether it has 29 takes arithmetic on the year.
const date = String.raw`\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8]))`;
const time = String.raw`(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)`;
// Shorter than the standard allows: each further character takes a hundredth of a second to compile.
const label = '[A-Za-z0-9](?:[A-Za-z0-9-]{0,14}[A-Za-z0-9])?';
const byte = String.raw`(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)`;
const word = '[0-9A-Fa-f]{1,4}';
const clock = String.raw`T(?:\d{1,6}H(?:\d{1,6}M(?:\d{1,6}S)?)?|\d{1,6}M(?:\d{1,6}S)?|\d{1,6}S)`;
const days = String.raw`(?:\d{1,6}Y(?:\d{1,6}M(?:\d{1,6}D)?)?|\d{1,6}M(?:\d{1,6}D)?|\d{1,6}D)`;

const PATTERNS: ReadonlyMap<string, string> = new Map([
  ['date', date],
  ['time', time],
  ['date-time', `${date}T${time}`],
  ['duration', String.raw`P(?:\d{1,6}W|${days}(?:${clock})?|${clock})`],
  ['email', String.raw`[A-Za-z0-9_+-]{1,16}(?:\.[A-Za-z0-9_+-]{1,16})?@${label}(?:\.${label}){1,3}`],
  ['hostname', String.raw`${label}(?:\.${label}){0,3}`],
  ['ipv4', String.raw`${byte}(?:\.${byte}){3}`],
  ['ipv6', `(?:${word}:){7}${word}|(?:${word}:){1,6}:${word}|::(?:${word}:){0,6}${word}|(?:${word}:){1,7}:|::`],
  ['uuid', '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}'],
]);

export const FORMATS: readonly string[] = [...PATTERNS.keys()];

/** The whole string's pattern; undefined for a format that is not honoured. */
export function patternOfFormat(format: string): string | undefined {
  const pattern = PATTERNS.get(format);
  return pattern && `^(?:${pattern})$`;
}
