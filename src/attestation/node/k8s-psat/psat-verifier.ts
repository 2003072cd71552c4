import { codeOf, SpiffeError } from '../../../spiffe/errors.ts'
import { isJsonObject, type JsonObject } from '../../../spiffe/strict-json.ts'
import type { ApiServer } from '../../kubernetes/api-server.ts'
import type { NodeVerifier, VerifiedNode } from '../node-verifier.ts'
import type { PsatCluster } from './psat-cluster.ts'
import { parsePsatPayload } from './psat-payload.ts'
import { type ReviewedToken, reviewToken } from './token-review.ts'

export interface KnownCluster extends PsatCluster { readonly api: ApiServer }

/**
 * SPIRE's `k8s_psat`, the server's half: has the agent's cluster review its token, then looks up the pod and the node that it runs on.
 * Nothing is remembered between attestations: a pod that was deleted is refused at the next one.
 * @param clusters by name
 */
export function createPsatVerifier (clusters: ReadonlyMap<string, KnownCluster>): NodeVerifier {
  return {
    name: 'k8s_psat',
    async verify (payload, { signal }) {
      const { cluster: name, token } = parsePsatPayload(payload)
      const cluster = clusters.get(name)
      if (cluster === undefined) throw refused(`k8s_psat: not configured for cluster ${JSON.stringify(name.slice(0, 64))}`)
      try {
        const reviewed = await reviewToken(cluster.api, token, cluster.audiences, signal)
        return await describeNode(name, cluster, reviewed, signal)
      } catch (error) {
        throw inCluster(error, name)
      }
    }
  }
}

async function describeNode (
  name: string, { api, serviceAccounts, nodeLabels, podLabels, namedByPod }: KnownCluster, token: ReviewedToken, signal: AbortSignal
): Promise<VerifiedNode> {
  const { namespace, serviceAccount, podName, podUid } = token
  const account = `${namespace}:${serviceAccount}`
  if (!serviceAccounts.has(account)) throw refused(`"${account}" is not an allowed service account`)
  const pod = await api.get(`/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(podName)}`, signal)
  // The name may be another pod's by now.
  if (pod === undefined || text(pod, 'metadata', 'uid') !== podUid) throw refused(`pod ${namespace}/${podName} of the token has gone`)
  const nodeName = text(pod, 'spec', 'nodeName')
  if (nodeName === '') throw refused(`pod ${namespace}/${podName} is on no node`)
  if (token.nodeName !== undefined && token.nodeName !== nodeName) {
    throw refused(`the token was made for node ${token.nodeName}, and its pod is on ${nodeName}`)
  }
  const node = await api.get(`/api/v1/nodes/${encodeURIComponent(nodeName)}`, signal)
  const nodeUid = node === undefined ? '' : text(node, 'metadata', 'uid')
  if (node === undefined || nodeUid === '') throw refused(`node ${nodeName} of the pod has gone`)
  return {
    idPath: `${name}/${namedByPod ? `pod/${podUid}` : nodeUid}`,
    canReattest: true,
    selectors: [
      `cluster:${name}`,
      `agent_ns:${namespace}`,
      `agent_sa:${serviceAccount}`,
      `agent_pod_name:${podName}`,
      `agent_pod_uid:${podUid}`,
      `agent_node_ip:${text(pod, 'status', 'hostIP')}`,
      `agent_node_name:${nodeName}`,
      `agent_node_uid:${nodeUid}`,
      ...labelsOf(node, nodeLabels).map(label => `agent_node_label:${label}`),
      ...labelsOf(pod, podLabels).map(label => `agent_pod_label:${label}`)
    ]
  }
}

function text (object: JsonObject, section: string, name: string): string {
  const part = object[section]
  const value = isJsonObject(part) ? part[name] : undefined
  return typeof value === 'string' ? value : ''
}

/** `key:value` of the labels that count. */
function labelsOf ({ metadata }: JsonObject, allowed: ReadonlySet<string>): string[] {
  const labels = isJsonObject(metadata) && isJsonObject(metadata['labels']) ? metadata['labels'] : {}
  return Object.entries(labels).flatMap(([key, value]) => allowed.has(key) && typeof value === 'string' ? [`${key}:${value}`] : [])
}

function refused (why: string): SpiffeError {
  return new SpiffeError('attestation_refused', why)
}

/** A server may have several: an operator wants to know which. */
function inCluster (error: unknown, cluster: string): unknown {
  const code = codeOf(error)
  if (code !== 'attestation_refused' && code !== 'kubernetes_unreachable') return error
  return new SpiffeError(code, `k8s_psat, cluster "${cluster}": ${(error as SpiffeError).message}`, { cause: error })
}
