/** Where the checkout is, and where a stack keeps its state (DESIGN §6, SWITCHYARD_HOME). */
import { dirname, join, resolve } from 'node:path';

export const ROOT = dirname(import.meta.dirname);

export const HOME = resolve(process.env['SWITCHYARD_HOME'] ?? join(ROOT, '.switchyard'));
