import { isJsonObject, type JsonObject } from '../../../spiffe/strict-json.ts'
import { foreignWords } from '../../../runtime/foreign-words.ts'
import { SpiffeError } from '../../../spiffe/errors.ts'
import type { ApiServer } from '../../kubernetes/api-server.ts'

/** Whose token it is, as the cluster that made it says. */
export interface ReviewedToken {
  readonly namespace: string
  readonly serviceAccount: string
  readonly podName: string
  readonly podUid: string
  /** Of clusters since 1.30. */
  readonly nodeName: string | undefined
}

/**
 * Asks the cluster whether a token is good now: signed by it, in time, for one of the audiences, and of a pod that exists.
 * @throws {SpiffeError} `attestation_refused`, `kubernetes_unreachable`
 */
export async function reviewToken (
  api: ApiServer, token: string, audiences: readonly string[], signal: AbortSignal
): Promise<ReviewedToken> {
  const review = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec: { token, audiences } }
  const { status } = await api.create('/apis/authentication.k8s.io/v1/tokenreviews', review, signal)
  if (!isJsonObject(status)) throw new SpiffeError('kubernetes_unreachable', 'the TokenReview came back without a status')
  if (status['authenticated'] !== true) {
    const said = typeof status['error'] === 'string' && status['error'] !== '' ? `: ${foreignWords(status['error'])}` : ''
    throw refused(`token not authenticated according to TokenReview API${said}`)
  }
  // A reviewer that knows nothing of audiences answers without them, and would take a token for anybody.
  const granted = Array.isArray(status['audiences']) ? status['audiences'] : []
  if (!audiences.some(audience => granted.includes(audience))) {
    throw refused(`the token is for none of the audiences ${audiences.join(', ')}`)
  }
  const user = isJsonObject(status['user']) ? status['user'] : {}
  const name = typeof user['username'] === 'string' ? user['username'] : ''
  const [, namespace, serviceAccount] = /^system:serviceaccount:([^:]+):([^:]+)$/.exec(name) ?? []
  if (namespace === undefined || serviceAccount === undefined) throw refused('the token is not a service account\'s')
  const extra = isJsonObject(user['extra']) ? user['extra'] : {}
  const podName = only(extra, 'pod-name')
  const podUid = only(extra, 'pod-uid')
  if (podName === undefined || podUid === undefined) throw refused('the token is bound to no pod: project it into the agent\'s pod')
  return { namespace, serviceAccount, podName, podUid, nodeName: only(extra, 'node-name') }
}

function only (extra: JsonObject, name: string): string | undefined {
  const values = extra[`authentication.kubernetes.io/${name}`]
  const [value, ...others] = Array.isArray(values) ? values : []
  return typeof value === 'string' && value !== '' && others.length === 0 ? value : undefined
}

function refused (why: string): SpiffeError {
  return new SpiffeError('attestation_refused', why)
}
