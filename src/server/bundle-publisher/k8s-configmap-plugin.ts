import { z } from 'zod'
import { ApiServer } from '../../attestation/kubernetes/api-server.ts'
import { mapFromList } from '../../plugins/plugin-blocks.ts'
import type { Plugin } from '../../plugins/plugin.ts'
import { durationSeconds, text } from '../../runtime/config-schema.ts'
import { formatOwnBundle } from './bundle-format.ts'
import type { BundlePublisher, OwnBundleNow } from './bundle-publisher.ts'

const fieldManager = 'assay-server'

/** RFC 1123, as names of most objects are. */
const objectName = z.string().regex(/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/, 'must be a name of a Kubernetes object')
const dataKey = z.string().regex(/^[\w.-]{1,253}$/, 'must be a key of a ConfigMap: A-Z a-z 0-9 . - _')

const clusterSchema = z.strictObject({
  format: z.enum(['spiffe', 'jwks', 'pem']),
  namespace: objectName,
  configmap_name: objectName,
  configmap_key: dataKey,
  kubeconfig_path: z.string().optional(),
  refresh_hint: durationSeconds(1_000).optional()
})

type Cluster = z.output<typeof clusterSchema>
type Config = { readonly clusters: Readonly<Record<string, Cluster>> }

/**
 * SPIRE's `k8s_configmap`: the trust domain's bundle in a ConfigMap of each cluster, for whoever joins. Written by server-side apply, so
 * that it is made where it is missing (if the server may), and other keys of it are left alone.
 */
export const k8sConfigMapPublisherPlugin: Plugin<BundlePublisher, Config, unknown> = {
  name: 'k8s_configmap',
  config: z.strictObject({
    clusters: z.preprocess(mapFromList, z.record(text, clusterSchema)
      .refine(clusters => Object.keys(clusters).length > 0, 'must name at least one cluster'))
  }),
  async start ({ clusters }) {
    const scope = new AsyncDisposableStack()
    const places = Object.entries(clusters).map(([cluster, { namespace, configmap_name: name, configmap_key: key, ...how }]) => {
      const api = scope.use(ApiServer.of(how.kubeconfig_path || undefined))
      return {
        name: `ConfigMap ${namespace}/${name} of cluster ${cluster}`,
        publish: async (now: OwnBundleNow, signal: AbortSignal) => {
          const { text } = await formatOwnBundle(now, { format: how.format, refreshHintSeconds: how.refresh_hint })
          await api.apply(`/api/v1/namespaces/${namespace}/configmaps/${name}`, {
            apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace }, data: { [key]: text }
          }, { fieldManager }, signal)
        }
      }
    })
    return { places, [Symbol.asyncDispose]: () => scope.disposeAsync() }
  }
}
