import { X509Certificate } from 'node:crypto'
import type { Bundle } from '../spiffe/bundle.ts'
import type { CallContext } from '../rpc/call.ts'
import type { Clock } from '../runtime/clock.ts'
import { codeOf } from '../spiffe/errors.ts'
import { parseSpiffeId } from '../spiffe/spiffe-id.ts'
import type { DebugHandlers, GetInfoResponse_CertInit } from '../wire/generated/agent-debug.ts'
import { encodeSpiffeId } from '../wire/spiffe-id-codec.ts'
import { type Certificate, parseCertificate } from '../x509/certificate.ts'
import { findPath } from '../x509/certification-path.ts'

export interface AgentDebugDeps {
  /** The agent's own, DER, leaf first; `undefined` until it has joined. */
  readonly chain: () => readonly Uint8Array[] | undefined
  readonly bundle: () => Bundle
  readonly svids: { readonly size: number }
  readonly jwts: { readonly size: number }
  /** `undefined` until there was one. */
  readonly lastSync: () => Date | undefined
  readonly clock: Clock
}

/** SPIRE's Debug API of the agent. Nothing here is secret; the answer is fresh each time. */
export function debugHandlers (deps: AgentDebugDeps): DebugHandlers<CallContext> {
  const { clock, svids, jwts } = deps
  const startedMs = clock.monotonicMs()
  return {
    async getInfo () {
      return {
        svidChain: path(deps.chain() ?? [], deps.bundle(), clock.now()).map(describe),
        uptime: Math.floor((clock.monotonicMs() - startedMs) / 1000),
        svidsCount: svids.size,
        cachedX509SvidsCount: svids.size,
        cachedJwtSvidsCount: jwts.size,
        lastSyncSuccess: Math.floor((deps.lastSync()?.getTime() ?? 0) / 1000)
      }
    }
  }
}

/** Up to the root where one is trusted, as SPIRE shows it; otherwise what the agent shows its server. */
function path (chain: readonly Uint8Array[], bundle: Bundle, at: Date): readonly Certificate[] {
  const [leaf, ...others] = chain.map(parseCertificate)
  if (leaf === undefined) return []
  try {
    return findPath(leaf, others, bundle, at)
  } catch (error) {
    if (codeOf(error) === undefined) throw error
    return [leaf, ...others]
  }
}

function describe ({ raw, uriSans: [id], notAfter }: Certificate): GetInfoResponse_CertInit {
  return {
    id: id === undefined ? undefined : encodeSpiffeId(parseSpiffeId(id)),
    expiresAt: Math.floor(notAfter.getTime() / 1000),
    // The last part first, as RFC 4514 has it.
    subject: new X509Certificate(raw).subject.split('\n').toReversed().join(',')
  }
}
