import { z } from 'zod'
import { ApiServer } from '../../attestation/kubernetes/api-server.ts'
import type { Notifier } from '../../plugins/notifier.ts'
import type { Plugin } from '../../plugins/plugin.ts'
import { optionalText } from '../../runtime/config-schema.ts'
import { type ClusterBundleConfig, ClusterBundle } from './cluster-bundle.ts'

const objectName = optionalText.refine(name => name === undefined || /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/.test(name),
  'must be a name of a Kubernetes object')

const clusterKeys = {
  namespace: objectName,
  config_map: objectName,
  config_map_key: optionalText.refine(key => key === undefined || /^[\w.-]{1,253}$/.test(key),
    'must be a key of a ConfigMap: A-Z a-z 0-9 . - _'),
  webhook_label: labelKey(),
  api_service_label: labelKey(),
  kube_config_file_path: optionalText
}

function labelKey () {
  return optionalText.refine(key => key === undefined || /^([a-z0-9.-]{1,253}\/)?[\w.-]{1,63}$/i.test(key), 'must be the key of a label')
}

const clusterSchema = z.strictObject(clusterKeys)
const otherCluster = clusterSchema.refine(cluster => cluster.kube_config_file_path !== undefined, {
  path: ['kube_config_file_path'], message: 'is required'
})

type Config = readonly ClusterBundleConfig[]

/** SPIRE's keys: one cluster by keys of its own, which is this server's unless a file is named, and others in a list. */
const configSchema = z.strictObject({
  ...clusterKeys, clusters: z.array(otherCluster).default([])
}).transform(({ clusters, ...own }): Config => {
  const isOwnMeant = clusters.length === 0 || Object.values(own).some(value => value !== undefined)
  return [...isOwnMeant ? [own] : [], ...clusters].map(cluster => ({
    kubeconfig: cluster.kube_config_file_path,
    namespace: cluster.namespace ?? 'spire',
    configMap: cluster.config_map ?? 'spire-bundle',
    configMapKey: cluster.config_map_key ?? 'bundle.crt',
    webhookLabel: cluster.webhook_label,
    apiServiceLabel: cluster.api_service_label
  }))
})

/** Of objects that are made while a server runs. */
const lookAgainMs = 10_000

/** SPIRE's `k8sbundle`: the trust domain's X.509 authorities in a ConfigMap of each cluster, and in webhooks and API services by label. */
export const k8sBundleNotifierPlugin: Plugin<Notifier, Config, unknown> = {
  name: 'k8sbundle',
  config: configSchema,
  async start (config) {
    const scope = new AsyncDisposableStack()
    const clusters = config.map(cluster => new ClusterBundle(cluster, scope.use(ApiServer.of(cluster.kubeconfig))))
    const tell: NonNullable<Notifier['bundleUpdated']> = async (bundle, signal) => {
      const outcomes = await Promise.allSettled(clusters.map(cluster => cluster.write(bundle, signal)))
      for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
    }
    const isLabelled = config.some(({ webhookLabel, apiServiceLabel }) => webhookLabel !== undefined || apiServiceLabel !== undefined)
    return {
      name: 'k8sbundle',
      isShared: true,
      ...isLabelled ? { againMs: lookAgainMs } : {},
      bundleLoaded: tell,
      bundleUpdated: tell,
      [Symbol.asyncDispose]: () => scope.disposeAsync()
    }
  }
}
