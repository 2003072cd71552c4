import type { Logger } from '../../runtime/logger.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { formatSelector } from '../../spiffe/selector.ts'
import type { ServedWorkloads } from '../workloads/served-workloads.ts'
import { nameOf } from './node-pod.ts'
import type { PodAnnouncement, PodEnrolment } from './pod-enrolment.ts'
import type { PodMetrics } from './pod-metrics.ts'
import type { RedirectRules } from './redirect-rules.ts'

export interface PodMesh {
  readonly enrolment: PodEnrolment
  readonly passWithoutIdentity: boolean
  /** For all that must be there before a pod may start. */
  readonly addWithinMs: number
  readonly rules: RedirectRules | undefined
  readonly metrics: PodMetrics
  readonly log: Logger
}

/** What became of a pod that starts. */
export type Announced =
  | { readonly kind: 'served', readonly uid: string }
  | { readonly kind: 'left_alone', readonly why: string }

/**
 * A runtime starts a pod. Returns once nothing of it can leave or arrive past the proxy, and the proxy serves it; or because it does not
 * belong to the mesh.
 * @throws {SpiffeError} `no_identity_issued`: no entry gives it one in time, and pods without are refused; `proxy_unready`: the proxy did
 * not take its listeners over in time; what `PodEnrolment.add` refuses with. Its connections stay redirected: it may be tried again
 */
export async function announcePod (
  announcement: PodAnnouncement, { enrolment: pods, passWithoutIdentity, addWithinMs, metrics, log }: PodMesh, served: ServedWorkloads,
  signal: AbortSignal
): Promise<Announced> {
  const patience = AbortSignal.any([signal, AbortSignal.timeout(addWithinMs)])
  const name = nameOf(announcement.pod)
  const { sandbox, enrolment } = await pods.add(announcement, patience).catch((error: unknown) => { throw late(error, signal, name) })
  if (!enrolment.enrolled) return { kind: 'left_alone', why: enrolment.why }
  if (!await served.untilKnown(sandbox.uid, patience)) {
    signal.throwIfAborted()
    const selectors = sandbox.wanted.selectors.map(formatSelector)
    if (!passWithoutIdentity) {
      throw new SpiffeError('no_identity_issued', `no entry gives pod ${name} an identity; it has ${selectors.join(' ')}`)
    }
    metrics.warn('passed_without_identity')
    log.warn({ pod: name, selectors }, 'a pod starts without an identity, outside the mesh until an entry gives it one')
    return { kind: 'left_alone', why: 'no entry gives it an identity, and without_identity is pass' }
  }
  // Where one without an identity is left alone, its rules come with the identity.
  await sandbox.settle(patience).catch((error: unknown) => { throw late(error, signal, name) })
  if (await served.untilServed(sandbox.uid, patience)) return { kind: 'served', uid: sandbox.uid }
  signal.throwIfAborted()
  const refusal = served.refusalOf(sandbox.uid)
  const said = refusal === undefined ? 'it has not taken its listeners over yet' : `it says ${refusal}`
  const why = served.proxies === 0 ? 'no proxy is connected' : said
  throw new SpiffeError('proxy_unready', `the node's proxy does not listen in pod ${name}: ${why}`)
}

/**
 * Whether all is in force that should be.
 * @returns `undefined`: no pod was announced under that ID. @throws {SpiffeError} `proxy_unready`, `redirect_failed`
 */
export async function checkPod (
  id: string, { enrolment, passWithoutIdentity, rules }: PodMesh, served: ServedWorkloads, signal: AbortSignal
): Promise<true | undefined> {
  const sandbox = enrolment.find(id)
  if (sandbox === undefined) return undefined
  if (!sandbox.wanted.enrolled || (passWithoutIdentity && !sandbox.hasIdentity)) return true
  const name = nameOf(sandbox.pod)
  if (rules !== undefined && !await rules.exist(sandbox.netnsPath, signal)) {
    throw new SpiffeError('redirect_failed', `the connections of pod ${name} are not redirected`)
  }
  if (!served.isServed(sandbox.uid)) throw new SpiffeError('proxy_unready', `the node's proxy does not serve pod ${name}`)
  return true
}

/** What ran out of time, and not because the caller went away. */
function late (error: unknown, signal: AbortSignal, pod: string): unknown {
  if (signal.aborted || error instanceof SpiffeError) return error
  if ((error as Error).name !== 'TimeoutError') return error
  return new SpiffeError('deadline_exceeded', `what pod ${pod} is to the mesh could not be made real in time`, { cause: error })
}
