#!/usr/bin/env node

// Everything else is imported after this, since an older Node cannot even parse it.
if (Number(process.versions.node.split('.')[0]) < 24) {
  process.stderr.write(`Error: assay needs Node 24 or newer, and this is ${process.version}\n` +
    '  next: install Node 24, or run bin/assay from a clone\n')
  process.exit(1)
}

const [{ commandTree }, { runCli }, { openTerminal }] = await Promise.all([
  import('./command-tree.ts'), import('./run-cli.ts'), import('./terminal.ts')
])
process.exit(await runCli(commandTree, process.argv.slice(2), openTerminal()))
