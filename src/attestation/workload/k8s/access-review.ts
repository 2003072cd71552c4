import { SpiffeError } from '../../../spiffe/errors.ts'
import type { Selector } from '../../../spiffe/selector.ts'
import type { SpiffeId } from '../../../spiffe/spiffe-id.ts'
import { isJsonObject, type JsonObject } from '../../../spiffe/strict-json.ts'
import type { ApiServer } from '../../kubernetes/api-server.ts'
import type { PodAccess } from '../pod-access.ts'

export interface BrokerAccessConfig {
  /** `enforced`: the cluster is asked of each pod. */
  readonly accessPolicy: 'enforced' | 'permissive'
  /** Who may name pods at all. */
  readonly brokers: ReadonlySet<SpiffeId>
  /** Path; the cluster that this process runs in unless given. */
  readonly kubeconfig: string | undefined
}

const path = '/apis/authorization.k8s.io/v1/subjectaccessreviews'
/** SPIRE's, so that a cluster's roles serve both. Kubernetes' own `impersonate` would give the broker rights beside this question. */
const verb = 'impersonate-via-spire'

/** SPIRE's `access_policy`: a SubjectAccessReview with the broker's SPIFFE ID as the user, without groups, for the pod that it named. */
export function createPodAccess ({ accessPolicy, brokers }: BrokerAccessConfig, api: Pick<ApiServer, 'create'>): PodAccess {
  return {
    async review (broker, selectors, signal) {
      const pod = podOf(selectors)
      if (pod === undefined) return
      if (!brokers.has(broker)) throw new SpiffeError('reference_not_allowed', `${broker} is not among the k8s attestor's brokers`)
      if (accessPolicy === 'permissive') return
      const spec = { user: broker, resourceAttributes: { verb, group: '', resource: 'pods', ...pod } }
      const { status } = await api.create(path, { apiVersion: 'authorization.k8s.io/v1', kind: 'SubjectAccessReview', spec }, signal)
      if (isAllowed(status)) return
      throw new SpiffeError('reference_not_allowed', `the cluster does not let ${broker} ${verb} pod ${pod.namespace}/${pod.name}`)
    }
  }
}

/** What the kubelet said, by way of the attestor. */
function podOf (selectors: readonly Selector[]): { readonly namespace: string, readonly name: string } | undefined {
  const of = (key: string) => selectors.find(({ type, value }) => type === 'k8s' && value.startsWith(key))?.value.slice(key.length)
  const [namespace, name] = [of('ns:'), of('pod-name:')]
  return namespace === undefined || name === undefined ? undefined : { namespace, name }
}

/** A refusal of one authorizer counts whatever another says. */
function isAllowed (status: JsonObject[string] | undefined): boolean {
  return isJsonObject(status) && status['allowed'] === true && status['denied'] !== true
}
