import t from 'tap'
import { spawnSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isGroup, type CommandGroup, type CommandLeaf, type CommandNode } from '../../src/cli/command.ts'
import { commandTree } from '../../src/cli/command-tree.ts'
import { completionPoints } from '../../src/cli/completion.ts'
import { findCommand } from '../../src/cli/find-command.ts'
import { parseFlags } from '../../src/cli/parse-flags.ts'
import { errorCatalogue } from '../../src/spiffe/errors.ts'
import { runAssay } from '../fakes/run-assay.ts'

function paths (group: CommandGroup, path: readonly string[] = []): (readonly string[])[] {
  return Object.entries(group.commands).flatMap(([name, node]) => isGroup(node) ? paths(node, [...path, name]) : [[...path, name]])
}

function leafOf (node: CommandNode): CommandLeaf {
  if (isGroup(node)) throw new Error(`no command but a group: ${node.summary}`)
  return node
}

void t.test('every command has help with an example that it understands', async t => {
  for (const path of paths(commandTree)) {
    const { code, stdout } = await runAssay([...path, '--help'])
    t.equal(code, 0, `${path.join(' ')} --help`)
    t.match(stdout, new RegExp(`Usage: assay ${path.join(' ')}`), 'usage')
    const { node } = findCommand(commandTree, path)
    const command = await leafOf(node).load()
    t.ok(command.examples.length > 0, 'has examples')
    for (const example of command.examples) {
      t.ok(stdout.includes(`  ${example}\n`), example)
      const call = example.slice(example.indexOf('assay ')).split(/ [|<>] /)[0] as string
      const words = call.slice('assay '.length).split(' ')
      const found = findCommand(commandTree, words)
      const called = await leafOf(found.node).load()
      t.doesNotThrow(() => parseFlags(called, found.rest), example)
    }
  }
})

void t.test('the commands that must exist exist', async t => {
  const known = paths(commandTree).map(path => path.join(' '))
  for (const path of [
    'server run', 'server healthcheck', 'server status', 'server validate', 'agent run', 'agent healthcheck', 'agent validate',
    'status', 'token generate',
    'entry create', 'entry show', 'entry update', 'entry delete', 'entry count', 'agent list', 'agent show', 'agent count', 'agent ban',
    'agent evict', 'agent purge', 'bundle show', 'bundle list', 'bundle count', 'bundle set', 'bundle delete', 'localauthority x509 show',
    'localauthority x509 prepare', 'localauthority x509 activate', 'localauthority x509 taint', 'localauthority x509 revoke',
    'localauthority jwt show', 'localauthority jwt prepare', 'localauthority jwt activate', 'localauthority jwt taint',
    'localauthority jwt revoke', 'upstreamauthority taint', 'upstreamauthority revoke', 'rotate', 'x509 mint', 'jwt mint',
    'revoke svid', 'revoke id', 'revoke node', 'revoke list', 'revoke lift',
    'api fetch x509', 'api fetch jwt', 'api watch', 'api validate jwt', 'svid inspect', 'svid verify', 'drill failover', 'errors',
    'controller run', 'controller plan', 'redirect plan', 'redirect apply', 'redirect list', 'redirect remove',
    'takeover plan', 'takeover start', 'takeover run', 'takeover status', 'takeover token', 'takeover finish', 'takeover rollback',
    'policy test', 'policy lint', 'policy diff', 'can-i', 'why-denied',
    'completion', 'demo'
  ]) t.ok(known.includes(path), path)
})

void t.test('errors explains each code', async t => {
  t.match(await runAssay(['errors', 'no_identity_issued']), {
    code: 0, stdout: /PERMISSION_DENIED[^]*retry: may help[^]*assay entry create/
  })
  t.match(await runAssay(['errors', 'no_identity']), { code: 2, stderr: /did you mean no_identity_issued\?/ })
  const { stdout } = await runAssay(['errors', '--output', 'json'])
  t.same((JSON.parse(stdout) as { code: string }[]).map(({ code }) => code), Object.keys(errorCatalogue))
})

void t.test('--version tells the package\'s version', async t => {
  for (const flag of ['-version', '--version']) t.match(await runAssay([flag]), { code: 0, stdout: /^assay \d+\.\d+\.\d+\n$/ }, flag)
})

void t.test('completion', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-completion-'))
  t.teardown(() => rm(folder, { recursive: true }))
  t.match(await runAssay(['completion', 'tcsh']), { code: 2, stderr: /there is bash, zsh and fish/ })
  for (const shell of ['bash', 'zsh', 'fish']) {
    const { code, stdout } = await runAssay(['completion', shell])
    t.equal(code, 0, shell)
    for (const { path } of await completionPoints(commandTree)) t.ok(stdout.includes(path), `${shell} knows ${path}`)
    const file = join(folder, `assay.${shell}`)
    await writeFile(file, stdout)
    const { error, status, stderr } = spawnSync(shell, ['-n', file], { encoding: 'utf8' })
    if (error !== undefined) t.comment(`${shell} is not here: the syntax of its script is not checked`)
    else t.equal(status, 0, `${shell} reads its script: ${stderr}`)
  }
  const complete = (...words: string[]) => {
    const script = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); _assay; printf "%s\\n" "${COMPREPLY[@]}"'
    const bash = ['-c', script, 'bash', join(folder, 'assay.bash'), 'assay', ...words]
    const { stdout, stderr } = spawnSync('bash', bash, { encoding: 'utf8' })
    t.equal(stderr, '', words.join(' '))
    return stdout.split('\n').filter(word => word !== '')
  }
  t.same(complete('ser'), ['server', 'service'])
  t.same(complete('server', ''), ['run', 'healthcheck', 'status', 'validate', 'logger', 'debug'])
  t.same(complete('api', 'fetch', ''), ['x509', 'jwt'])
  t.same(complete('entry', 'create', '-sel'), ['-selector'])
  t.same(complete('bundle', 'show', '-format', ''), ['pem', 'spiffe'])
  t.same(complete('bundle', 'show', '--format', 'sp'), ['spiffe'])
  t.ok(complete('svid', 'verify', join(folder, 'assay.b')).includes(join(folder, 'assay.bash')), 'paths where a file is wanted')
  t.ok(complete('svid', 'verify', '-bundle', join(folder, 'assay.b')).includes(join(folder, 'assay.bash')))
  t.same(complete('localauthority', 'x509', ''), ['show', 'prepare', 'activate', 'taint', 'revoke'])
  t.same(complete('entry', 'create', '-wa'), ['-wait', '-wait-timeout'])
  t.same(complete('rotate', '-compromised', ''), ['x509', 'jwt'])
  t.ok(complete('status', '-socketPath', join(folder, 'assay.b')).includes(join(folder, 'assay.bash')), 'also where it may be repeated')
  t.same(complete('errors', 'usage'), ['usage_invalid'])
})
