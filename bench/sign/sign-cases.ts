import { validateJwtSvid } from '../../src/jwt/validate-jwt-svid.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { svidService } from '../../src/wire/generated/server-svid.ts'
import { verifyX509Svid } from '../../src/x509/verify-svid.ts'
import { withCallers } from '../measure/callers.ts'
import { newRequest, type AgentIdentity, type TestBed } from '../measure/test-bed.ts'
import type { Range } from '../suite.ts'

export interface SignCase {
  readonly what: string
  /** Operations in one round. */
  readonly operations: number
  /** SPIRE's server CPU in ms for the same. */
  readonly spire: Range
  /** Part of SPIRE's CPU that we allow ourselves; none for attestation. */
  readonly share: number | undefined
  /** Makes ready what is not measured. @returns the round */
  prepare (): Promise<() => Promise<void>>
}

export interface SignDeps {
  readonly bed: TestBed
  readonly agent: AgentIdentity
  readonly entryIds: readonly string[]
  readonly bundle: Bundle
  /** 1 for a real run. */
  readonly scale: number
}

/** CSRs are made before the clock starts; each is used many times, which the server does not notice. */
const requests = Array.from({ length: 200 }, () => newRequest())

export function signCases (deps: SignDeps): SignCase[] {
  const times = (count: number) => Math.max(8, Math.round(count * deps.scale))
  return [
    x509Case(deps, { batch: 1, callers: 1, calls: times(1500), spire: [1.05, 1.5], share: 1 / 3 }),
    x509Case(deps, { batch: 1, callers: 8, calls: times(3000), spire: [1.05, 1.5], share: 1 / 3 }),
    x509Case(deps, { batch: 50, callers: 1, calls: times(80), spire: [0.62, 0.84], share: 1 / 2 }),
    x509Case(deps, { batch: 50, callers: 8, calls: times(120), spire: [0.62, 0.84], share: 1 / 2 }),
    jwtCase(deps, 1, times(2000)),
    jwtCase(deps, 8, times(4000)),
    attestCase(deps, 1, times(200)),
    attestCase(deps, 8, times(300))
  ]
}

type X509Case = Readonly<Record<'batch' | 'callers' | 'calls' | 'share', number>> & Pick<SignCase, 'spire'>

function x509Case (deps: SignDeps, { batch, callers, calls, spire, share }: X509Case): SignCase {
  const { bed, agent, entryIds, bundle } = deps
  const channel = bed.connect(agent)
  const client = channel.client(svidService)
  const params = entryIds.map((entryId, index) => ({ entryId, csr: requests[index % requests.length]?.csr ?? new Uint8Array() }))
  const round = async () => {
    let last: readonly Uint8Array[] = []
    await withCallers(callers, calls, async index => {
      const start = (index * batch) % (params.length - batch + 1)
      const { results } = await client.batchNewX509SVID({ params: params.slice(start, start + batch) })
      if (results.length !== batch) throw new Error(`${results.length} results for ${batch} requests`)
      for (const { status, svid } of results) {
        if (status?.code !== 0 || svid === undefined) throw new Error(`not signed: ${status?.message}`)
        last = svid.certChain
      }
    })
    verifyX509Svid(last, { bundleOf: () => bundle, at: new Date() })
  }
  const what = `X509-SVID, ${batch} per call, ${counted(callers, 'caller')}`
  return { what, operations: calls * batch, spire, share, prepare: async () => round }
}

function jwtCase ({ bed, agent, entryIds, bundle }: SignDeps, callers: number, calls: number): SignCase {
  const client = bed.connect(agent).client(svidService)
  const round = async () => {
    let last = ''
    await withCallers(callers, calls, async index => {
      const { svid } = await client.newJWTSVID({ entryId: entryIds[index % entryIds.length], audience: ['spiffe://example.org/peer'] })
      last = svid?.token ?? ''
    })
    validateJwtSvid(last, { bundleOf: () => bundle, audience: ['spiffe://example.org/peer'], at: new Date() })
  }
  return { what: `JWT-SVID, ${counted(callers, 'caller')}`, operations: calls, spire: [0.9, 1.2], share: 1 / 3, prepare: async () => round }
}

function attestCase ({ bed, bundle }: SignDeps, callers: number, calls: number): SignCase {
  const prepare = async () => {
    const tokens: string[] = []
    await withCallers(4, calls, async () => { tokens.push(await bed.joinToken()) })
    return async () => {
      let last: AgentIdentity | undefined
      await withCallers(callers, calls, async index => {
        last = await bed.attest(tokens[index] as string, requests[index % requests.length])
      })
      verifyX509Svid(last?.chain ?? [], { bundleOf: () => bundle, at: new Date() })
    }
  }
  const what = `attestation by join token, new TLS connection, ${counted(callers, 'caller')}`
  return { what, operations: calls, spire: [3.3, 5.8], share: undefined, prepare }
}

function counted (count: number, noun: string): string { return count === 1 ? `1 ${noun}` : `${count} ${noun}s` }

