import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { bind } from '../../src/rpc/bound-service.ts'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { openRpcServer } from '../../src/rpc/server.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { Mailbox } from '../../src/runtime/mailbox.ts'
import type { SdsKind } from '../../src/sds/sds-events.ts'
import { sdsHandlers, type SdsDeps } from '../../src/sds/sds-handlers.ts'
import {
  type DeltaDiscoveryRequestInit, type DeltaDiscoveryResponse, type DiscoveryRequestInit, type DiscoveryResponse, secretDiscoveryService
} from '../../src/wire/generated/envoy-sds.ts'
import { FakeIdentities, TestTrustDomain } from './identities.ts'

export const own = await TestTrustDomain.create('own.test')
export const foreign = await TestTrustDomain.create('foreign.test')
export const web = await own.issue('/web')
export const db = await own.issue('/db')
export const mine = [{ type: 'unix', value: `uid:${process.getuid?.()}` }]

export async function serve (t: Test, options: Partial<SdsDeps> = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'sds-'))
  const path = join(folder, 'api.sock')
  const identities = new FakeIdentities(own.bundle)
  const open = { sotw: 0, delta: 0, fetch: 0 }
  const counts: Record<string, number> = {}
  const count = (what: string) => (kind: SdsKind) => { counts[`${kind} ${what}`] = (counts[`${kind} ${what}`] ?? 0) + 1 }
  const deps: SdsDeps = {
    attestWorkload: async ({ caller }) => caller.kind === 'unix' ? [{ type: 'unix', value: `uid:${caller.peer.uid}` }] : [],
    identities,
    clock: systemClock,
    metrics: {
      streams (kind, change) { open[kind] += change },
      pushed: count('pushed'),
      acknowledged: count('acknowledged'),
      refused: count('refused')
    },
    ...options
  }
  const server = openRpcServer({ services: [bind(secretDiscoveryService, sdsHandlers(deps))], log: silentLogger, clock: systemClock })
  await server.listenUnix({ path })
  const channel = openUnixChannel(path)
  const client = channel.client(secretDiscoveryService)
  const { streamSecrets, deltaSecrets } = client
  t.teardown(async () => {
    await channel[Symbol.asyncDispose]()
    await server[Symbol.asyncDispose]()
    await rm(folder, { recursive: true })
    if (identities.watchers > 0 || open.sotw + open.delta > 0) throw new Error('a stream was left behind')
  })
  return {
    identities, client, open, counts, path,
    sotw: () => conversation<DiscoveryRequestInit, DiscoveryResponse>((requests, signal) => streamSecrets(requests, { signal })),
    delta: () => conversation<DeltaDiscoveryRequestInit, DeltaDiscoveryResponse>((requests, signal) => deltaSecrets(requests, { signal }))
  }
}

export function conversation<Request, Response> (call: (requests: AsyncIterable<Request>, signal: AbortSignal) => AsyncIterable<Response>) {
  const stop = new AbortController()
  const outbox = new Mailbox<Request>()
  const answers = call(outbox, stop.signal)[Symbol.asyncIterator]()
  return {
    send: (request: Request) => outbox.put(request),
    async next (): Promise<Response> {
      const { value, done } = await answers.next()
      if (done === true) throw new Error('the stream has ended')
      return value
    },
    hangUp: () => stop.abort(),
    end: () => outbox.close()
  }
}

export const described = ({ resources, removedResources }: DeltaDiscoveryResponse) =>
  [...resources.map(one => one.name), ...removedResources.map(name => `-${name}`)]
