import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { superviseEnvoy } from '../../src/mesh/envoy/supervise-envoy.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { eventually } from '../fakes/eventually.ts'

const handover = new Error('another takes its place')

void t.test('an Envoy is drained once the next one serves all that it does', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-envoy-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const command = join(folder, 'envoy')
  const program = join(import.meta.dirname, '../fakes/fake-envoy.mjs')
  writeFileSync(command, `#!/bin/sh\nexec '${process.execPath}' '${program}' "$@"\n`, { mode: 0o755 })
  const tells = (name: number, state: { readonly listeners: number, readonly clustersWarming?: number }) => {
    writeFileSync(join(folder, 'new'), JSON.stringify({ clustersWarming: 0, ...state }))
    renameSync(join(folder, 'new'), join(folder, `state-${name}.json`))
  }
  const asked = (name: number) => {
    const file = join(folder, `asked-${name}`)
    return existsSync(file) ? readFileSync(file, 'utf8').split('\n').slice(0, -1) : []
  }
  const start = (concurrency: number) => {
    const stop = new AbortController()
    const envoy = superviseEnvoy({
      command, folder, concurrency, xdsSocketPath: join(folder, 'xds.sock'), nodeId: 'node', outlivesAgent: true,
      isHandover: reason => reason === handover
    }, systemClock, silentLogger)
    const running = envoy.run(stop.signal)
    return { envoy, end: async (reason: Error) => { stop.abort(reason); await running } }
  }
  const moreLooks = async () => {
    const before = asked(2).length
    await eventually('it to be looked at again and again', () => asked(2).length >= before + 6)
  }
  const drained = () => asked(1).some(url => url.startsWith('/drain_listeners'))

  tells(1, { listeners: 3 })
  const first = start(1)
  await eventually('the first one', () => first.envoy.status.pid !== undefined && existsSync(first.envoy.status.adminSocketPath))
  await first.end(handover)
  // It is told of one listener after the other, and is live with the first.
  tells(2, { listeners: 1 })
  const second = start(2)
  await moreLooks()
  t.notOk(drained(), 'not while the next one has less listeners')
  tells(2, { listeners: 3, clustersWarming: 1 })
  await moreLooks()
  t.notOk(drained(), 'nor while it knows nothing of a cluster\'s endpoints')
  tells(2, { listeners: 3 })
  await eventually('the first one to be drained', drained)
  await second.end(new Error('the test is over'))
})
