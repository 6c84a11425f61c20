/**
 * Base models known by name. A file is recognised by its content, wherever it lies and whatever it
 * is called, so that the same base has the same id on every worker.
 */
export interface CatalogueEntry {
  id: string;
  file: string;
  bytes: number;
  sha256: string;
}

export const CATALOGUE: readonly CatalogueEntry[] = [
  {
    id: 'SmolLM2-135M-Instruct',
    file: 'SmolLM2-135M-Instruct.Q4_1.gguf',
    bytes: 98_362_432,
    sha256: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
  },
];
