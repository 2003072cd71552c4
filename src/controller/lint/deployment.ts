import type { Finding } from './finding.ts'
import { findingAt, type Manifest } from './manifest.ts'
import { recordOf, textOf } from './raw-fields.ts'
import type { ServerConfigMap } from './server-config-maps.ts'
import { workloadOf, type Workload } from './workloads.ts'

/** Names that stand in examples and that many have: two such trust domains can never federate. */
const placeholder = /(^|\.)(example|example\.(org|com|net)|test|local|localhost|invalid|demo)$/

/** How servers and agents are run. */
export function deployment (manifests: readonly Manifest[], configs: readonly ServerConfigMap[]): readonly Finding[] {
  const workloads = manifests.map(workloadOf).filter(workload => workload !== undefined)
  return [
    ...workloads.flatMap(workload => replicasOnSqlite(workload, configs, manifests)),
    ...workloads.flatMap(agentsBesideWorkloads),
    ...configs.filter(({ trustDomain }) => placeholder.test(trustDomain)).map(({ manifest, trustDomain }) =>
      findingAt(manifest, ['data'], 'trust-domain-placeholder', `is for ${trustDomain}, which can never federate: others have it too`))
  ]
}

/** The embedded database is one server's: a second one does not start, or has a database of its own. */
function replicasOnSqlite (workload: Workload, configs: readonly ServerConfigMap[], manifests: readonly Manifest[]): readonly Finding[] {
  if (!workload.containers.some(({ role }) => role === 'server')) return []
  const { name, namespace, kind } = workload.manifest
  const config = configs.find(({ manifest }) => manifest.namespace === namespace && workload.configMaps.has(manifest.name))
  if (config?.database !== 'embedded') return []
  const found = (about: Manifest, path: readonly PropertyKey[], message: string) =>
    findingAt(about, path, 'sqlite-with-replicas', message)
  const scalers = manifests.filter(one => {
    const { scaleTargetRef, maxReplicas } = recordOf(one.body['spec'])
    const target = recordOf(scaleTargetRef)
    return one.kind === 'HorizontalPodAutoscaler' && one.namespace === namespace && textOf(target['kind']) === kind &&
      textOf(target['name']) === name && Number(maxReplicas) > 1
  })
  const because = `on SQLite, by ConfigMap ${config.manifest.name}: each replica would be a server of its own, with other entries`
  return [
    ...workload.replicas > 1 ? [found(workload.manifest, ['spec', 'replicas'], `runs ${workload.replicas} servers ${because}`)] : [],
    ...kind === 'DaemonSet' ? [found(workload.manifest, ['spec'], `runs a server on every node ${because}`)] : [],
    ...scalers.map(scaler => found(scaler, ['spec', 'maxReplicas'], `scales ${kind} ${name} to more than one server ${because}`))
  ]
}

/** One agent per node: one in a pod attests by the pod's own token, and sees nobody but its neighbours. */
function agentsBesideWorkloads ({ manifest, containers }: Workload): readonly Finding[] {
  if (manifest.kind === 'DaemonSet') return []
  return containers.filter(({ role }) => role === 'agent').map(({ name, path }) => {
    const others = containers.filter(other => other.role === undefined).map(other => other.name)
    const how = others.length > 0 ? `as a sidecar of ${others.join(', ')}` : `in a ${manifest.kind}`
    return findingAt(manifest, path, 'agent-not-per-node', `runs the agent ${name} ${how}, not once per node`)
  })
}
