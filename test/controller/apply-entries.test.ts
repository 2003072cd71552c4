import t from 'tap'
import { DesiredState } from '../../src/controller/desired/desired-state.ts'
import { diffEntries } from '../../src/controller/desired/diff-entries.ts'
import { applyEntries } from '../../src/controller/reconcile/apply-entries.ts'
import { EntryMirror } from '../../src/controller/server/entry-mirror.ts'
import { ServerEntries } from '../../src/controller/server/server-entries.ts'
import { defaultLimits } from '../../src/rpc/limits.ts'
import { bind } from '../../src/rpc/server.ts'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { serveServices } from '../fakes/serve-services.ts'
import { MadeUpCluster, scopeWith } from './cluster-fixture.ts'

const prefix = 'assay-controller.demo..'

/** Services of one namespace, with names as long as they may be. */
function services (count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${'s'.repeat(59)}${String(index).padStart(4, '0')}`)
}

void t.test('long lists of names that pods come by do not keep others from their entries', async t => {
  const cluster = new MadeUpCluster()
  cluster.addSpiffeId('pods', { spiffeIDTemplate: 'spiffe://example.org/{{ .PodMeta.Name }}', autoPopulateDNSNames: true })
  const names = Array.from({ length: 120 }, (_, index) => `pod-${index}`)
  for (const name of names) cluster.servicesByPod.set(cluster.addPod(name), services(150))
  const desired = new DesiredState(scopeWith())
  const keys = desired.refresh(cluster)
  const mirror = new EntryMirror(prefix)
  const changes = diffEntries(keys, key => desired.of(key), mirror, prefix)
  const all = changes.create.flatMap(({ entry }) => entry.dnsNames).join('').length
  t.ok(all > defaultLimits.maxMessageBytes, 'all of them are more than a server takes at once')
  const calls: number[] = []
  const socket = await serveServices(t, [bind(entryService, {
    async batchCreateEntry ({ entries }) {
      calls.push(entries.length)
      return { results: entries.map(({ id }) => ({ status: { code: 0 }, entry: { id } })) }
    }
  })])
  await using channel = openUnixChannel(socket)
  const deps = { server: new ServerEntries(channel), mirror, check: () => {} }
  const { created, failures } = await applyEntries(changes, deps, new AbortController().signal)
  t.strictSame([created.size, failures.size], [120, 0])
  t.ok(calls.length > 1 && calls.length < 10, `in a few calls: ${calls.join(' ')}`)
})

void t.test('more names than any message has are no entry', async t => {
  const cluster = new MadeUpCluster()
  cluster.addSpiffeId('pods', { spiffeIDTemplate: 'spiffe://example.org/{{ .PodMeta.Name }}', autoPopulateDNSNames: true })
  const uid = cluster.addPod('greedy')
  cluster.servicesByPod.set(uid, services(300))
  cluster.addPod('modest')
  const desired = new DesiredState(scopeWith())
  t.equal(desired.refresh(cluster).size, 1, 'the other pod has its own')
  t.match(desired.outcomeOf(uid)?.skips, [{ reason: 'render_failed', rule: /1200 DNS names have more than 65536 characters/ }])
})
