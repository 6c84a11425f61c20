/**
 * Virtual counters (fairness in serving language models, arXiv:2401.00588): what each tenant was served, divided by its
 * weight. The tenant with the least is next. One that returns starts at the least of those present, so that nobody
 * saves up a right to the whole machine by staying away, nor sheds what it used by leaving for a moment.
 */

/** Relative prices of tokens: how much of a step each takes. */
export const COST = { prompt: 1, cached: 0.1, generated: 2 } as const;

/** Beyond so many, absent tenants whose counter no longer says anything are forgotten. */
const REMEMBERED = 1024;

interface Tenant {
  counter: number;
  weight: number;
  /** Sequences that wait or run. */
  present: number;
}

export class Tenants {
  readonly #tenants = new Map<string, Tenant>();
  /** The least counter of those present; what it was last while nobody is. */
  #floor = 0;

  /** A sequence of the tenant arrives. Its weight holds for all from now on. */
  enter(name: string, weight: number): void {
    const tenant = this.#tenants.get(name) ?? { counter: 0, weight, present: 0 };
    if (tenant.present === 0) {
      this.#raiseFloor();
      tenant.counter = Math.max(tenant.counter, this.#floor);
    }
    tenant.weight = weight;
    tenant.present++;
    this.#tenants.set(name, tenant);
    if (this.#tenants.size > REMEMBERED) this.#forget();
  }

  leave(name: string): void {
    this.#raiseFloor();
    this.#of(name).present--;
  }

  charge(name: string, cost: number): void {
    const tenant = this.#of(name);
    tenant.counter += cost / tenant.weight;
  }

  /** What the tenant was served, by weight. */
  served(name: string): number {
    return this.#of(name).counter;
  }

  #of(name: string): Tenant {
    const tenant = this.#tenants.get(name);
    if (!tenant) throw new Error(`tenant ${name} has no sequence here`);
    return tenant;
  }

  #raiseFloor(): void {
    let least = Number.POSITIVE_INFINITY;
    for (const { counter, present } of this.#tenants.values()) if (present > 0) least = Math.min(least, counter);
    if (least < Number.POSITIVE_INFINITY) this.#floor = least;
  }

  #forget(): void {
    for (const [name, { counter, present }] of this.#tenants) if (present === 0 && counter <= this.#floor) this.#tenants.delete(name);
  }
}
