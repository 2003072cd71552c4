import t from 'tap'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { bind } from '../../src/rpc/server.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { serveServices } from '../fakes/serve-services.ts'

const bin = join(import.meta.dirname, '..', '..', 'bin', 'assay')

void t.test('bin/assay runs from anywhere', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-bin-'))
  t.teardown(() => rm(folder, { recursive: true }))
  await mkdir(join(folder, 'with space'))
  await symlink(bin, join(folder, 'with space', 'first'))
  await symlink('with space/first', join(folder, 'second'))
  for (const command of [bin, join(folder, 'with space', 'first'), join(folder, 'second')]) {
    const { status, stdout, stderr } = spawnSync(command, ['--version'], { cwd: folder, encoding: 'utf8', env: { PATH: '/usr/bin:/bin' } })
    t.match({ status, stdout, stderr }, { status: 0, stdout: /^assay \d/, stderr: '' }, command)
  }
  const script = `"${bin}" errors | head -1; "${bin}" errors nonsense-xyz; echo $?`
  const piped = spawnSync('/bin/sh', ['-c', script], { encoding: 'utf8' })
  t.match(piped, { stdout: 'trust_domain_malformed\n2\n', stderr: /^Error: no error has the code/ }, 'a reader may stop early')
})

void t.test('output that cannot be written is no success', async t => {
  const into = (redirected: string) => {
    const { status, stdout, stderr } = spawnSync('/bin/sh', ['-c', `"${bin}" ${redirected}`], { encoding: 'utf8' })
    return { status, stdout, stderr }
  }
  t.match(into('--version >/dev/full'), {
    status: 2, stderr: /^Error: the output cannot be written: no space is left on the device\n {2}code: file_unusable/
  })
  t.match(JSON.parse(into('errors -output json >/dev/full').stderr), { error: { code: 'file_unusable' } })
  t.match(into('errors nonsense-xyz >/dev/full'), { status: 2, stderr: /no error has the code/ }, 'nothing was to be written')
  t.match(into('errors 2>/dev/full'), { status: 0, stdout: /^trust_domain_malformed/ }, 'what people only watch may get lost')
  t.match(into('errors nonsense-xyz 2>/dev/full'), { status: 2 }, 'and the exit code is the same')
})

void t.test('signals', async t => {
  const socket = await serveServices(t, [bind(workloadService, {
    async * fetchX509SVID (_request, { signal }) {
      yield { svids: [] }
      await new Promise<void>(resolve => {
        if (signal.aborted) resolve()
        signal.addEventListener('abort', () => resolve())
      })
    }
  })])
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    const child = spawn(bin, ['api', 'watch', '-socketPath', socket], { stdio: ['ignore', 'pipe', 'inherit'] })
    await once(child.stdout, 'data')
    child.kill(signal)
    t.same(await once(child, 'exit'), [0, null], `${signal} ends a watch well`)
  }
  const script = `
    import { openTerminal } from ${JSON.stringify(new URL('../../src/cli/terminal.ts', import.meta.url).href)}
    const { signal } = openTerminal()
    signal.addEventListener('abort', () => console.log('stopping'))
    setInterval(() => {}, 1000)
    console.log('ready')`
  const stubborn = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(stubborn.stdout, 'data')
  stubborn.kill('SIGTERM')
  t.match(String((await once(stubborn.stdout, 'data'))[0]), 'stopping')
  stubborn.kill('SIGINT')
  t.same(await once(stubborn, 'exit'), [130, null], 'the second signal ends the process at once')

  const halfDone = `
    import { openTerminal } from ${JSON.stringify(new URL('../../src/cli/terminal.ts', import.meta.url).href)}
    const { signal, out } = openTerminal()
    signal.addEventListener('abort', () => process.exit(7))
    setInterval(() => out('at work\\n'), 10)`
  const unread = spawn(process.execPath, ['--input-type=module', '-e', halfDone], { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(unread.stdout, 'data')
  unread.stdout.destroy()
  t.same(await once(unread, 'exit'), [7, null], 'who is not read any more ends as by a signal, and what is half done is no success')
})
