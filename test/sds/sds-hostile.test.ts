import { readdir } from 'node:fs/promises'
import t from 'tap'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import type { X509Svid } from '../../src/spiffe/svid.ts'
import { type DeltaDiscoveryRequestInit, type DeltaDiscoveryResponse, secretDiscoveryService } from '../../src/wire/generated/envoy-sds.ts'
import { until } from '../fakes/envoy.ts'
import { identityOf } from '../fakes/identities.ts'
import { conversation, described, mine, own, serve, web } from '../fakes/sds.ts'

await t.test('a hostile client', async t => {
  const { identities, sotw, delta, client, open, path } = await serve(t)
  identities.set(mine, identityOf(own.bundle, [web]))
  const names = Array.from({ length: 1001 }, (_, i) => `spiffe://own.test/${i}`)

  await t.test('asks for very many or very long names', async t => {
    const refusal = { code: 'argument_invalid', status: 'INVALID_ARGUMENT' }
    for (const resourceNames of [names, ['x'.repeat(2049)]]) {
      const stream = sotw()
      stream.send({ resourceNames })
      await t.rejects(stream.next(), refusal)
      const incremental = delta()
      incremental.send({ resourceNamesSubscribe: resourceNames })
      await t.rejects(incremental.next(), refusal)
      await t.rejects(client.fetchSecrets({ resourceNames }), refusal)
    }
  })

  await t.test('floods one stream with requests and reads nothing, while another is served', async t => {
    const flood = delta()
    for (let i = 0; i < 2000; i++) flood.send({ resourceNamesSubscribe: names.slice(0, 100), responseNonce: `${i}` })
    const polite = delta()
    polite.send({ resourceNamesSubscribe: ['default'] })
    t.same(described(await polite.next()), ['default'])
    identities.set(mine, identityOf(own.bundle, [await own.issue('/web')]))
    t.same(described(await polite.next()), ['default'])
    polite.hangUp()
    flood.hangUp()
    await until('both to be gone', () => open.delta === 0 && identities.watchers === 0)
  })

  await t.test('opens 1 000 streams and goes away', async t => {
    const descriptors = async () => (await readdir('/proc/self/fd')).length
    const before = await descriptors()
    const channels = Array.from({ length: 10 }, () => openUnixChannel(path))
    const streams = channels.flatMap(channel => Array.from({ length: 100 }, () => {
      const { deltaSecrets } = channel.client(secretDiscoveryService)
      return conversation<DeltaDiscoveryRequestInit, DeltaDiscoveryResponse>((requests, signal) => deltaSecrets(requests, { signal }))
    }))
    for (const stream of streams) stream.send({ resourceNamesSubscribe: ['default', 'ALL'] })
    await Promise.all(streams.map(stream => stream.next()))
    t.same([open.delta, identities.watchers], [1000, 1000])
    const pending = streams.map(async stream => {
      try {
        for (;;) await stream.next()
      } catch {}
    })
    identities.set(mine, identityOf(own.bundle, [await own.issue('/web')]))
    await Promise.all(channels.map(channel => channel[Symbol.asyncDispose]()))
    await Promise.all(pending)
    await until('the streams to be gone', () => open.delta === 0 && identities.watchers === 0)
    await until('the descriptors to be closed', async () => await descriptors() <= before)
    t.pass('no watch and no descriptor is left')
  })
})

await t.test('200 streams of one workload share the work of one', async t => {
  const { identities, delta } = await serve(t)
  let read = 0
  const svid: X509Svid = { ...web, get privateKey () { read++; return web.privateKey } }
  identities.set(mine, identityOf(own.bundle, [svid]))
  const streams = Array.from({ length: 200 }, delta)
  for (const stream of streams) stream.send({ resourceNamesSubscribe: ['default'] })
  await Promise.all(streams.map(stream => stream.next()))
  t.equal(read, 2, 'the key was checked once and encoded once')
  for (const stream of streams) stream.hangUp()
})
