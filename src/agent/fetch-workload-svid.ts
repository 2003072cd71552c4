import type { WorkloadSvid } from '../attestation/node/x509pop/pop-attestor.ts'
import { openUnixChannel } from '../rpc/channel.ts'
import { firstOf } from '../runtime/first-of.ts'
import { isStop } from '../runtime/tasks.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { workloadService } from '../wire/generated/workload.ts'
import { splitCertificates } from '../x509/certificate.ts'

const timeoutMs = 20_000
/** Every call of the Workload API carries this (WLE-04). */
const metadata = { 'workload.spiffe.io': 'true' }

/**
 * The default X509-SVID that this process has as a workload of another agent: the first, as everywhere.
 * @param path of that agent's socket
 * @throws {SpiffeError} `workload_api_unavailable`. When the signal aborts, its reason.
 */
export async function fetchWorkloadSvid (path: string, signal: AbortSignal): Promise<WorkloadSvid> {
  const unavailable = (why: string, cause?: unknown) =>
    new SpiffeError('workload_api_unavailable', `the Workload API at ${path} gave this agent no SVID: ${why}`, { cause })
  await using channel = openUnixChannel(path)
  let response
  try {
    response = await firstOf(channel.client(workloadService).fetchX509SVID({}, { signal, timeoutMs, metadata }))
  } catch (error) {
    if (isStop(error, signal)) throw error
    throw unavailable((error as Error).message, error)
  }
  const [svid] = response?.svids ?? []
  if (svid === undefined) throw unavailable('it answered without one')
  return { chain: splitCertificates(svid.x509Svid), privateKey: svid.x509SvidKey }
}
