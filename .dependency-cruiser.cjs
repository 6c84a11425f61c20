// Who may import whom (DESIGN §3). Checked by `npm test`; a new folder gets its rule here first.
// Cycles are biome's to find (noImportCycles): it tells imports of types apart.

// swc's visitor does not know `using` declarations; they hold expressions as any variable's do.
const { Visitor } = require('@swc/core/Visitor.js');
const { visitStatement } = Visitor.prototype;
Visitor.prototype.visitStatement = function visitStatementOrUsing(statement) {
  if (statement.type !== 'UsingDeclaration') return visitStatement.call(this, statement);
  statement.decls = this.visitVariableDeclarators(statement.decls);
  return statement;
};

/** A rule that modules under `from` import nothing under `to`, except `except`. */
const forbid = (name, from, to, except) => ({
  name,
  severity: 'error',
  from: { path: from },
  to: { path: to, ...(except ? { pathNot: except } : {}) },
});

/** A rule that modules under gpu-worker/<folder> import, inside gpu-worker, only `allowed` and themselves. */
const inWorker = (folder, allowed) =>
  forbid(
    `gpu-worker/${folder}`,
    `^gpu-worker/${folder}/`,
    '^gpu-worker/',
    `^gpu-worker/(${[folder, ...allowed].join('|')})(/|\\.ts$)`,
  );

module.exports = {
  forbidden: [
    { name: 'resolvable', severity: 'error', from: {}, to: { couldNotResolve: true, pathNot: '^cloudflare:' } },
    forbid('shared-stands-alone', '^shared/', '^(functions|gpu-worker|cli|console|tests)/'),
    { name: 'shared-runs-anywhere', severity: 'error', from: { path: '^shared/' }, to: { dependencyTypes: ['core'] } },
    forbid('edge-is-not-worker', '^functions/', '^(gpu-worker|cli|console|tests)/'),
    forbid('worker-is-not-edge', '^gpu-worker/', '^(functions|cli|console|tests)/'),
    forbid('product-is-not-test', '^(functions|gpu-worker|shared|cli)/', '^tests/'),
    inWorker('tensor', []),
    inWorker('graph', ['tensor']),
    inWorker('autodiff', ['tensor', 'graph']),
    inWorker('peft', ['tensor', 'graph']),
    inWorker('models', ['tensor', 'graph', 'peft/kind', 'tokenizer']),
    inWorker('tokenizer', []),
    inWorker('runtime', ['tensor', 'graph', 'kernels']),
    inWorker('kernels', []),
    inWorker('storage', []),
    inWorker('adapters', ['models', 'storage']),
    inWorker('engine', ['tensor', 'graph', 'models', 'peft', 'tokenizer', 'runtime']),
    inWorker('server', ['tensor', 'tokenizer', 'storage', 'peft', 'adapters', 'engine/grammar/schema']),
    {
      name: 'only-runtime-touches-onnxruntime',
      severity: 'error',
      from: { pathNot: '^gpu-worker/runtime/' },
      to: { path: 'node_modules/(onnxruntime-node|koffi)/' },
    },
    {
      name: 'only-main-wires',
      severity: 'error',
      from: { path: '^gpu-worker/', pathNot: '^gpu-worker/main\\.ts$' },
      to: { path: '^gpu-worker/main\\.ts$' },
    },
  ],
  options: {
    parser: 'swc',
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^node_modules/.*/node_modules/' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default'], extensions: ['.ts', '.mjs', '.js', '.cjs', '.json'] },
  },
};
