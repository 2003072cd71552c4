import { validateJwtSvid } from '../../src/jwt/validate-jwt-svid.ts'
import { svidService } from '../../src/wire/generated/server-svid.ts'
import { verifyX509Svid } from '../../src/x509/verify-svid.ts'
import { withCallers } from '../measure/callers.ts'
import { newRequest, type AgentIdentity } from '../measure/test-bed.ts'
import type { Subject, SubjectEntry } from './subject.ts'

/** Something that is asked of a server; the same for each server, so that cases of two can be laid side by side. */
export interface SignCase {
  readonly what: string
  /** Operations in one round. */
  readonly operations: number
  /** Part of SPIRE's CPU that we allow ourselves; none for attestation. */
  readonly share: number | undefined
  /** Makes ready what is not measured. @returns the round, which throws at the first answer that is not right */
  prepare (): Promise<() => Promise<void>>
}

/** CSRs are made before the clock starts; each is used many times, which no server notices. */
const requests = Array.from({ length: 200 }, () => newRequest())
const audience = ['spiffe://example.org/peer']

/** @param scale 1 for a real run */
export function signCases (subject: Subject, scale: number): SignCase[] {
  const times = (count: number) => Math.max(8, Math.round(count * scale))
  return [
    x509Case(subject, { batch: 1, callers: 1, calls: times(1500), share: 1 / 3 }),
    x509Case(subject, { batch: 1, callers: 8, calls: times(3000), share: 1 / 3 }),
    x509Case(subject, { batch: 50, callers: 1, calls: times(80), share: 1 / 2 }),
    x509Case(subject, { batch: 50, callers: 8, calls: times(120), share: 1 / 2 }),
    jwtCase(subject, 1, times(2000)),
    jwtCase(subject, 8, times(4000)),
    attestCase(subject, 1, times(200)),
    attestCase(subject, 8, times(300))
  ]
}

type X509Case = Readonly<Record<'batch' | 'callers' | 'calls' | 'share', number>>

function x509Case ({ bed, agent, entries, bundle }: Subject, { batch, callers, calls, share }: X509Case): SignCase {
  const client = bed.connect(agent).client(svidService)
  const params = entries.map(({ id }, index) => ({ entryId: id, csr: requests[index % requests.length]?.csr ?? new Uint8Array() }))
  const round = async () => {
    let last: readonly Uint8Array[] = []
    let lastPath = ''
    await withCallers(callers, calls, async index => {
      const start = (index * batch) % (params.length - batch + 1)
      const { results } = await client.batchNewX509SVID({ params: params.slice(start, start + batch) })
      if (results.length !== batch) throw new Error(`${results.length} results for ${batch} requests`)
      for (const [at, { status, svid }] of results.entries()) {
        if (status?.code !== 0 || svid === undefined) throw new Error(`not signed: ${status?.message}`)
        expectPath(svid.id?.path, entries[start + at])
        last = svid.certChain
        lastPath = svid.id?.path ?? ''
      }
    })
    const { id } = verifyX509Svid(last, { bundleOf: () => bundle, at: new Date() })
    if (id !== `spiffe://example.org${lastPath}`) throw new Error(`the certificate is for ${id}, the answer said ${lastPath}`)
  }
  const what = `X509-SVID, ${batch} per call, ${counted(callers, 'caller')}`
  return { what, operations: calls * batch, share, prepare: async () => round }
}

function jwtCase ({ bed, agent, entries, bundle }: Subject, callers: number, calls: number): SignCase {
  const client = bed.connect(agent).client(svidService)
  const round = async () => {
    let last = ''
    await withCallers(callers, calls, async index => {
      const entry = entries[index % entries.length]
      const { svid } = await client.newJWTSVID({ entryId: entry?.id, audience })
      expectPath(svid?.id?.path, entry)
      last = svid?.token ?? ''
    })
    validateJwtSvid(last, { bundleOf: () => bundle, audience, at: new Date() })
  }
  return { what: `JWT-SVID, ${counted(callers, 'caller')}`, operations: calls, share: 1 / 3, prepare: async () => round }
}

function attestCase ({ bed, bundle }: Subject, callers: number, calls: number): SignCase {
  const prepare = async () => {
    const tokens: string[] = []
    await withCallers(4, calls, async () => { tokens.push(await bed.joinToken()) })
    return async () => {
      let last: AgentIdentity | undefined
      await withCallers(callers, calls, async index => {
        const token = tokens[index] as string
        last = await bed.attest(token, requests[index % requests.length])
        if (last.id.path?.endsWith(`/join_token/${token}`) !== true) throw new Error(`the agent became ${last.id.path}`)
      })
      verifyX509Svid(last?.chain ?? [], { bundleOf: () => bundle, at: new Date() })
    }
  }
  const what = `attestation by join token, new TLS connection, ${counted(callers, 'caller')}`
  return { what, operations: calls, share: undefined, prepare }
}

function expectPath (path: string | undefined, entry: SubjectEntry | undefined): void {
  if (path === undefined || path !== entry?.path) throw new Error(`asked for ${entry?.path}, got ${path}`)
}

function counted (count: number, noun: string): string { return count === 1 ? `1 ${noun}` : `${count} ${noun}s` }
