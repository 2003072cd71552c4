#!/usr/bin/env node

// Everything else is imported after this, since an older Node cannot even parse it.
if (Number(process.versions.node.split('.')[0]) < 24) {
  process.stderr.write(`Error: assay needs Node 24 or newer, and this is ${process.version}\n` +
    '  next: install Node 24, or run bin/assay from a clone\n')
  process.exit(1)
}

const [{ treeOf }, { runCli }, { openTerminal, programOf }] = await Promise.all([
  import('./spire/spire-trees.ts'), import('./run-cli.ts'), import('./terminal.ts')
])
const program = programOf(process.env)
const terminal = openTerminal(program)
process.exit(await runCli(treeOf(program), process.argv.slice(2), terminal, terminal.written))
