import { join } from 'node:path'
import { ApiServer } from '../attestation/kubernetes/api-server.ts'
import type { WorkloadAttestor } from '../attestation/workload/workload-attestor.ts'
import type { PodMesh } from '../mesh/pods/announce-pod.ts'
import { NamespaceLabels } from '../mesh/pods/namespace-labels.ts'
import type { Labels } from '../mesh/pods/node-pod.ts'
import { PodEnrolment } from '../mesh/pods/pod-enrolment.ts'
import { podMetrics } from '../mesh/pods/pod-metrics.ts'
import type { RedirectRules } from '../mesh/pods/redirect-rules.ts'
import type { WorkloadRegistry } from '../mesh/workloads/workload-registry.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import type { Metrics } from '../runtime/metrics.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { isJsonObject } from '../spiffe/strict-json.ts'
import type { PodMeshConfig } from './pod-mesh-config.ts'

export interface AgentPodsDeps {
  readonly dataDir: string
  readonly pins: string
  readonly attestors: readonly WorkloadAttestor[]
  readonly registry: WorkloadRegistry
  /** `undefined`: somebody else writes them. */
  readonly rules: RedirectRules | undefined
  readonly onLooked: () => void
  readonly metrics: Metrics
  readonly clock: Clock
  readonly log: Logger
}

/**
 * Enrols the pods of this node into the mesh as labels say it.
 * @throws {SpiffeError} `config_invalid`, `file_unusable`
 */
export async function openAgentPods (config: PodMeshConfig, deps: AgentPodsDeps): Promise<PodMesh & AsyncDisposable> {
  const { dataDir, attestors, rules, clock } = deps
  await using scope = new AsyncDisposableStack()
  const log = deps.log.child({ part: 'pods' })
  const pods = attestors.find(({ nodePods }) => nodePods !== undefined)?.nodePods
  if (pods === undefined) throw new SpiffeError('config_invalid', 'mesh.kubernetes needs the workload attestor k8s')
  const metrics = podMetrics(deps.metrics, () => enrolment.counts)
  const namespaces = !config.namespaceLabels ? undefined : new NamespaceLabels({
    fetch: labelsAt(scope.use(ApiServer.of(config.kubeconfig))), clock
  })
  const file = join(dataDir, 'pods.json')
  const enrolment = scope.use(await PodEnrolment.open({ ...config, ...deps, pods, namespaces, file, metrics, log }))
  const held = scope.move()
  return {
    enrolment, passWithoutIdentity: config.passWithoutIdentity, addWithinMs: config.addWithinMs, rules, metrics, log,
    [Symbol.asyncDispose]: () => held.disposeAsync()
  }
}

/** What `metadata.labels` of a namespace say. */
export function labelsAt (api: Pick<ApiServer, 'get'>): (namespace: string, signal: AbortSignal) => Promise<Labels | undefined> {
  return async (namespace, signal) => {
    const found = await api.get(`/api/v1/namespaces/${encodeURIComponent(namespace)}`, signal)
    if (found === undefined) return undefined
    const labels = isJsonObject(found['metadata']) ? found['metadata']['labels'] : undefined
    if (!isJsonObject(labels)) return {}
    return Object.fromEntries(Object.entries(labels).filter((pair): pair is [string, string] => typeof pair[1] === 'string'))
  }
}
