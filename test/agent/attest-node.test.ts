import { Buffer } from 'node:buffer'
import t from 'tap'
import { attestNode } from '../../src/agent/attest-node.ts'
import { verifyServerWith } from '../../src/rpc/verify-server.ts'
import type { NodeAttestor } from '../../src/attestation/node/node-attestor.ts'
import { bind, openRpcServer } from '../../src/rpc/server.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { agentService, type AttestAgentRequest, type AttestAgentResponseInit } from '../../src/wire/generated/server-agent.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { createTestAuthority } from '../fakes/authority.ts'

type Conversation = (requests: AsyncIterator<AttestAgentRequest>) => AsyncGenerator<AttestAgentResponseInit>

const signal = new AbortController().signal
const authority = await createTestAuthority('example.org')
const identity = await authority.issue('/spire/server')

/** Attests with a server that talks as told; over TLS, as in earnest. */
async function attestWith (attestor: NodeAttestor, talk: Conversation) {
  await using server = openRpcServer({
    services: [
      bind(agentService, { attestAgent: requests => talk(requests[Symbol.asyncIterator]()) }),
      bind(bundleService, {
        getBundle: async () => ({ trustDomain: 'example.org', x509Authorities: [{ asn1: authority.certificate.raw }] })
      })
    ],
    log: silentLogger,
    clock: systemClock
  })
  const { host, port } = await server.listenTls({ host: '127.0.0.1', port: 0, identity: () => identity, bundleOf: authority.bundleOf })
  return await attestNode({
    address: `${host}:${port}`,
    trustDomain: authority.trustDomain,
    verifyServer: verifyServerWith(() => authority.bundle, systemClock),
    requirePqKem: false,
    attestor,
    csr: Buffer.from('csr'),
    log: silentLogger
  }, signal)
}

/** Proves itself by turning challenges round, as often as `rounds` says. */
function reversing (rounds: number): NodeAttestor & { readonly ended: boolean } {
  const attestor = {
    name: 'reversing',
    ended: false,
    async * attest (): AsyncGenerator<Uint8Array, void, Uint8Array> {
      try {
        let challenge = yield Buffer.from('it is me')
        for (let round = 0; round < rounds; round++) challenge = yield challenge.toReversed()
      } finally {
        attestor.ended = true
      }
    }
  }
  return attestor
}

async function next (requests: AsyncIterator<AttestAgentRequest>): Promise<AttestAgentRequest> {
  const { value } = await requests.next() as { value: AttestAgentRequest }
  return value
}

const svid = { certChain: identity.chain }

void t.test('evidence and CSR first, then an answer to each challenge', async t => {
  const heard: (string | undefined)[] = []
  const attestor = reversing(2)
  const result = await attestWith(attestor, async function * (requests) {
    const { params } = await next(requests)
    heard.push(params?.data?.type, String(Buffer.from(params?.data?.payload ?? [])), String(Buffer.from(params?.params?.csr ?? [])))
    for (const challenge of ['abc', 'defg']) {
      yield { challenge: Buffer.from(challenge) }
      heard.push(String(Buffer.from((await next(requests)).challengeResponse ?? [])))
    }
    yield { result: { svid, reattestable: true } }
  })
  t.strictSame(heard, ['reversing', 'it is me', 'csr', 'cba', 'gfed'])
  t.strictSame(result.chain.map(der => Buffer.from(der)), identity.chain.map(der => Buffer.from(der)))
  t.equal(result.canReattest, true)
  t.equal(result.bundle.x509Authorities.length, 1)
  t.ok(attestor.ended, 'what the attestor holds is let go')
})

void t.test('a conversation that leads nowhere is refused', async t => {
  const endless = reversing(1)
  await t.rejects(attestWith(endless, async function * (requests) {
    for (;;) {
      await next(requests)
      yield { challenge: Buffer.from('again') }
    }
  }), { code: 'attestation_malformed', message: 'the server challenges reversing once more than it answers' })
  t.ok(endless.ended)
  const code = 'attestation_malformed'
  await t.rejects(attestWith(reversing(0), async function * () { yield {} }), { code, message: /neither an SVID nor/ })
  await t.rejects(attestWith(reversing(0), async function * () {}), { code, message: /without an SVID/ })
  const silent: NodeAttestor = { name: 'silent', async * attest () {} }
  await t.rejects(attestWith(silent, async function * () {}), { code, message: 'silent has nothing to show' })
})

void t.test('an attestor that fails is the reason', async t => {
  const failing: NodeAttestor = {
    name: 'failing',
    async * attest () {
      yield Buffer.from('it is me')
      throw new Error('the device is gone')
    }
  }
  await t.rejects(attestWith(failing, async function * () { yield { challenge: Buffer.from('abc') } }), { message: 'the device is gone' })
})
