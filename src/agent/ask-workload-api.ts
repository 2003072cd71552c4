import type { WorkloadSvid } from '../attestation/node/x509pop/pop-attestor.ts'
import { openUnixChannel, type CallOptions, type ClientOf } from '../rpc/channel.ts'
import { firstOf } from '../runtime/first-of.ts'
import { isStop } from '../runtime/tasks.ts'
import type { Bundle } from '../spiffe/bundle.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { trustDomainId } from '../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import { workloadService } from '../wire/generated/workload.ts'
import { splitCertificates } from '../x509/certificate.ts'

type Client = ClientOf<typeof workloadService.methods>

const timeoutMs = 20_000
/** Every call of the Workload API carries this (WLE-04). */
const metadata = { 'workload.spiffe.io': 'true' }

/**
 * The default X509-SVID that this process has as a workload of another agent: the first, as everywhere.
 * @param path of that agent's socket
 * @throws {SpiffeError} `workload_api_unavailable`. When the signal aborts, its reason.
 */
export async function fetchWorkloadSvid (path: string, signal: AbortSignal): Promise<WorkloadSvid> {
  const { svids: [svid] = [] } = await ask('SVID', path, (client, options) => client.fetchX509SVID({}, options), signal)
  if (svid === undefined) throw unavailable('SVID', path, 'it answered without one')
  return { chain: splitCertificates(svid.x509Svid), privateKey: svid.x509SvidKey }
}

/**
 * The X.509 half of a trust domain's bundle as another agent knows it: that of its own domain, or of a partner's of this process there.
 * @param path of that agent's socket
 * @throws {SpiffeError} `workload_api_unavailable`, `x509_malformed`. When the signal aborts, its reason.
 */
export async function fetchWorkloadBundle (path: string, trustDomain: TrustDomain, signal: AbortSignal): Promise<Bundle> {
  const { bundles } = await ask('bundle', path, (client, options) => client.fetchX509Bundles({}, options), signal)
  const certificates = bundles?.[trustDomainId(trustDomain)]
  if (certificates === undefined) throw unavailable('bundle', path, `it knows none of ${trustDomain}`)
  return {
    trustDomain, jwtAuthorities: [],
    x509Authorities: splitCertificates(certificates).map(certificate => ({ certificate, tainted: false }))
  }
}

/** @returns the first answer; nothing when the stream ends without one */
async function ask<T> (
  what: string, path: string, call: (client: Client, options: CallOptions) => AsyncIterable<T>, signal: AbortSignal
): Promise<Partial<T>> {
  await using channel = openUnixChannel(path)
  try {
    return await firstOf(call(channel.client(workloadService), { signal, timeoutMs, metadata })) ?? {}
  } catch (error) {
    if (isStop(error, signal)) throw error
    throw unavailable(what, path, (error as Error).message, error)
  }
}

function unavailable (what: string, path: string, why: string, cause?: unknown): SpiffeError {
  return new SpiffeError('workload_api_unavailable', `the Workload API at ${path} gave this agent no ${what}: ${why}`, { cause })
}
