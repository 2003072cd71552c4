import t from 'tap'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { defaultLimits } from '../../src/rpc/limits.ts'
import { bind, type BoundService } from '../../src/rpc/server.ts'
import { Changes } from '../../src/takeover/apply.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import type { Bundle } from '../../src/wire/generated/types.ts'
import { serveServices } from '../fakes/serve-services.ts'

const signal = AbortSignal.timeout(60_000)
const fine = { status: { code: 0 } }

async function changesAt (test: Parameters<typeof serveServices>[0], services: readonly BoundService[]) {
  const channel = openUnixChannel(await serveServices(test, services))
  test.teardown(() => channel[Symbol.asyncDispose]())
  return new Changes(channel, 'our server', { signal })
}

void t.test('entries and bundles that are more than a message holds are moved in several', async t => {
  const calls = { entries: [] as number[], bundles: [] as number[] }
  const changes = await changesAt(t, [
    bind(entryService, {
      async batchCreateEntry ({ entries }) {
        calls.entries.push(entries.length)
        return { results: entries.map(({ id }) => ({ ...fine, entry: { id } })) }
      }
    }),
    bind(bundleService, {
      async batchSetFederatedBundle ({ bundle }) {
        calls.bundles.push(bundle.length)
        return { results: bundle.map(() => fine) }
      }
    })
  ])
  const dnsNames = Array.from({ length: 1_000 }, (_, index) => `${'n'.repeat(40)}-${index}.example.org`)
  const create = Array.from({ length: 100 }, (_, index) => ({ id: `entry-${index}`, dnsNames }))
  t.ok(create.length * dnsNames.join('').length > defaultLimits.maxMessageBytes, 'all of them are too much for one')
  await changes.applyEntries({ create, update: [], remove: [] })
  t.same(calls.entries.reduce((sum, count) => sum + count), 100)
  t.ok(calls.entries.length < 10, `in few calls: ${calls.entries.join(' ')}`)

  const x509Authorities = [{ asn1: new Uint8Array(50_000), tainted: false }]
  await changes.setBundles(Array.from({ length: 100 }, (_, index): Bundle => ({
    trustDomain: `partner-${index}.test`, x509Authorities, jwtAuthorities: [], witAuthorities: [], refreshHint: 0n, sequenceNumber: 0n
  })))
  t.same(calls.bundles.reduce((sum, count) => sum + count), 100)
})

void t.test('a bundle that does not go is called by its name', async t => {
  const changes = await changesAt(t, [bind(bundleService, {
    async batchDeleteFederatedBundle () {
      return { results: [{ status: { code: 9 } }, { status: { code: 5 } }, { status: { code: 13, message: 'no room' } }] }
    }
  })])
  const refused = { code: 'takeover_refused', message: /the end of a bundle, c\.test: no room/ }
  await t.rejects(changes.removeBundles(['a.test', 'b.test', 'c.test']), refused)
})
