import t from 'tap'
import { Mailbox } from '../../src/runtime/mailbox.ts'
import { RpcError } from '../../src/rpc/rpc-error.ts'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import {
  entryService, type SyncAuthorizedEntriesRequestInit, type SyncAuthorizedEntriesResponse
} from '../../src/wire/generated/server-entry.ts'
import { svidService } from '../../src/wire/generated/server-svid.ts'
import { createCertificateRequest } from '../../src/x509/certificate-request.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { attest, identityOf, newKey, openServerChannel, type TestIdentity } from '../fakes/agent-client.ts'
import { ManualClock, settle } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { startTestServer, type TestServer } from '../fakes/server.ts'

const id = (path: string) => ({ trustDomain: 'example.org', path })
const pathOf = ({ chain: [leaf] }: TestIdentity) => new URL(parseCertificate(leaf as Uint8Array).uriSans[0] as string).pathname
const csr = () => createCertificateRequest(newKey())

/** How a call ends: a code of the catalogue, or `OK`. */
async function outcomeOf (call: Promise<unknown>): Promise<string | undefined> {
  try {
    await call
    return 'OK'
  } catch (error) {
    if (error instanceof RpcError) return error.code ?? error.status
    throw error
  }
}

async function register (server: TestServer, path: string, parent: string, downstream = false): Promise<string> {
  const { results: [created] } = await server.admin.client(entryService).batchCreateEntry({
    entries: [{ spiffeId: id(path), parentId: id(parent), selectors: [{ type: 'unix', value: 'uid:1' }], downstream }]
  })
  return created?.entry?.id as string
}

async function mint (server: TestServer, path: string): Promise<TestIdentity> {
  const key = newKey()
  const { svid } = await server.admin.client(svidService).mintX509SVID({
    csr: createCertificateRequest(key, { uriSans: [`spiffe://example.org${path}`] })
  })
  return identityOf(svid?.certChain ?? [], key)
}

void t.test('who loses the right to it while a call waits for its turn is given nothing', async t => {
  const clock = new ManualClock()
  await using server = await startTestServer({ clock, config: { ratelimit: { attestation: false, signing: true } } })
  const agent = await attest(server)
  const entryId = await register(server, '/web', pathOf(agent))
  const nestedId = await register(server, '/nested', pathOf(agent), true)
  await using ofAgent = openServerChannel(server, agent)
  await using ofNested = openServerChannel(server, await mint(server, '/nested'))
  const [asAgent, asNested] = [ofAgent.client(svidService), ofNested.client(svidService)]
  const ask = () => [
    asAgent.batchNewX509SVID({ params: [{ entryId, csr: csr() }] }).then(({ results }) => {
      if (results[0]?.status?.code !== 0) throw new Error('refused as an item')
    }),
    asAgent.newJWTSVID({ entryId, audience: ['a'] }),
    asNested.newDownstreamX509CA({ csr: csr() })
  ].map(outcomeOf)
  t.strictSame(await Promise.all(ask()), ['OK', 'OK', 'OK'])

  // What a second has room for; the clock stands still.
  await asAgent.batchNewX509SVID({ params: Array.from({ length: 498 }, () => ({ entryId: 'none', csr: csr() })) })
  await Promise.all(Array.from({ length: 499 }, () => outcomeOf(asAgent.newJWTSVID({ entryId: 'none', audience: ['a'] }))))
  const before = clock.sleeping
  const waiting = ask()
  await eventually('they wait', () => clock.sleeping >= before + 3)
  await server.admin.client(agentService).banAgent({ id: id(pathOf(agent)) })
  await server.admin.client(entryService).batchDeleteEntry({ ids: [nestedId] })
  let ended: ReadonlyArray<string | undefined> | undefined
  void Promise.all(waiting).then(outcomes => { ended = outcomes })
  await eventually('they end', async () => {
    await clock.advance(10)
    return ended !== undefined
  })
  t.strictSame(ended, ['agent_banned', 'agent_banned', 'authorization_denied'])
})

void t.test('an agent that opened a stream and is banned before it asks anything hears of no entries', async t => {
  await using server = await startTestServer()
  for (const [leave, code] of [['banAgent', 'agent_banned'], ['deleteAgent', 'agent_not_attested']] as const) {
    const agent = await attest(server)
    const parent = pathOf(agent)
    const { results } = await server.admin.client(entryService).batchCreateEntry({
      entries: Array.from({ length: 501 }, (_, n) => (
        { spiffeId: id(`/${leave}/${n}`), parentId: id(parent), selectors: [{ type: 'unix', value: 'uid:1' }] }
      ))
    })
    await using channel = openServerChannel(server, agent)
    const open = () => {
      const requests = new Mailbox<SyncAuthorizedEntriesRequestInit>()
      return { requests, answers: channel.client(entryService).syncAuthorizedEntries(requests)[Symbol.asyncIterator]() }
    }
    const [silent, begun] = [open(), open()]
    const first = silent.answers.next()
    begun.requests.put({})
    t.match(await begun.answers.next(), { value: { more: true } })
    t.match(await begun.answers.next(), { value: { more: false } })
    const [gone, stays] = results.map(({ entry }) => entry?.id as string)
    const another = await register(server, `/${leave}/of-another`, '/spire/agent/x509pop/another')
    await server.admin.client(entryService).batchDeleteEntry({ ids: [gone as string] })
    begun.requests.put({ ids: [gone as string, another, stays as string] })
    const { value } = await begun.answers.next() as { value: SyncAuthorizedEntriesResponse }
    t.strictSame(value.entries.map(({ id }) => id), [stays], `${leave}: of what is gone by then, or another's, nothing is told`)
    await settle()
    await server.admin.client(agentService)[leave]({ id: id(parent) })
    silent.requests.put({})
    begun.requests.put({ ids: [stays as string] })
    t.equal(await outcomeOf(first), code, `${leave}: whose first question comes afterwards`)
    t.equal(await outcomeOf(begun.answers.next()), code, `${leave}: who asks for more`)
  }
})
