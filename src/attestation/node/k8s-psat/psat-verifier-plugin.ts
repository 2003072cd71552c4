import { z } from 'zod'
import type { Plugin } from '../../../plugins/plugin.ts'
import { mapFromList } from '../../../plugins/plugin-blocks.ts'
import { ApiServer } from '../../kubernetes/api-server.ts'
import type { NodeVerifier } from '../node-verifier.ts'
import { clusterName } from './cluster-name.ts'
import type { PsatCluster } from './psat-cluster.ts'
import { createPsatVerifier } from './psat-verifier.ts'

const text = z.string().min(1, 'must not be empty')
const accountName = z.string().regex(/^[^:\s]+:[^:\s]+$/, 'must be namespace:name of a service account')

const clusterSchema = z.strictObject({
  service_account_allow_list: z.array(accountName).min(1, 'must name at least one service account, as namespace:name'),
  // SPIRE takes an empty list for the API server's own audience: then any token that a pod got for anything would do.
  audience: z.array(text).min(1, 'must name at least one audience, such as spire-server').default(['spire-server']),
  kube_config_file: z.string().optional(),
  allowed_node_label_keys: z.array(text).default([]),
  allowed_pod_label_keys: z.array(text).default([]),
  use_pod_uid_for_agent_id: z.boolean().default(false)
}).transform((cluster): PsatCluster => ({
  serviceAccounts: new Set(cluster.service_account_allow_list),
  audiences: cluster.audience,
  kubeconfig: cluster.kube_config_file === '' ? undefined : cluster.kube_config_file,
  nodeLabels: new Set(cluster.allowed_node_label_keys),
  podLabels: new Set(cluster.allowed_pod_label_keys),
  namedByPod: cluster.use_pod_uid_for_agent_id
}))

type Config = { readonly clusters: Readonly<Record<string, PsatCluster>> }

export const psatVerifierPlugin: Plugin<NodeVerifier & AsyncDisposable, Config, unknown> = {
  name: 'k8s_psat',
  config: z.strictObject({
    clusters: z.preprocess(mapFromList, z.record(clusterName, clusterSchema)
      .refine(clusters => Object.keys(clusters).length > 0, 'must name at least one cluster'))
  }),
  async start ({ clusters }) {
    const scope = new AsyncDisposableStack()
    const known = Object.entries(clusters).map(([name, cluster]) => [
      name, { ...cluster, api: scope.use(ApiServer.of(cluster.kubeconfig)) }
    ] as const)
    return { ...createPsatVerifier(new Map(known)), [Symbol.asyncDispose]: () => scope.disposeAsync() }
  }
}
