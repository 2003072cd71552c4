import type { KubeObject } from '../../scripts/render-deploy.ts'

interface Container {
  readonly name: string
  readonly image: string
  readonly args: readonly string[]
  readonly securityContext: {
    readonly privileged?: boolean
    readonly allowPrivilegeEscalation?: boolean
    readonly readOnlyRootFilesystem?: boolean
    readonly capabilities?: { readonly drop: readonly string[], readonly add?: readonly string[] }
  }
  readonly volumeMounts: ReadonlyArray<{ readonly name: string, readonly mountPath: string, readonly readOnly?: boolean }>
}

export interface PodSpec {
  readonly serviceAccountName: string
  readonly automountServiceAccountToken: boolean
  readonly hostPID?: boolean
  readonly hostNetwork?: boolean
  readonly securityContext: {
    readonly runAsNonRoot?: boolean, readonly runAsUser: number, readonly seccompProfile: { readonly type: string }
  }
  readonly containers: readonly Container[]
  readonly volumes: ReadonlyArray<{ readonly name: string } & Readonly<Record<string, unknown>>>
}

export interface PodTemplate {
  readonly metadata: { readonly labels: Readonly<Record<string, string>>, readonly annotations?: Readonly<Record<string, string>> }
  readonly spec: PodSpec
}

/** `Deployment assay/assay-server`: what tells one object from all others. */
export function nameOf ({ kind, metadata: { namespace, name } }: KubeObject): string {
  return `${kind} ${namespace === undefined ? '' : `${namespace}/`}${name}`
}

export function find (objects: readonly KubeObject[], kind: string, name: string): KubeObject {
  const found = objects.find(object => object.kind === kind && object.metadata.name === name)
  if (found === undefined) throw new Error(`there is no ${kind} ${name} in ${objects.map(nameOf).join(', ')}`)
  return found
}

/** A file of a ConfigMap. */
export function fileOf (objects: readonly KubeObject[], configMap: string, key: string): string {
  const { data } = find(objects, 'ConfigMap', configMap) as unknown as { data?: Readonly<Record<string, string>> }
  const text = data?.[key]
  if (text === undefined) throw new Error(`ConfigMap ${configMap} has no ${key}`)
  return text
}

/** Of a Deployment, a StatefulSet or a DaemonSet; `undefined` for all else. */
export function podTemplateOf (object: KubeObject): PodTemplate | undefined {
  return (object as unknown as { spec?: { template?: PodTemplate } }).spec?.template
}

/** The pod that a controller of the cluster would make of a workload. */
export function podOf (object: KubeObject, namespace = object.metadata.namespace): KubeObject | undefined {
  const template = podTemplateOf(object)
  if (template === undefined) return undefined
  const { spec } = template
  // What a StatefulSet adds of its own.
  const { volumeClaimTemplates: claims = [] } = (object as unknown as { spec: { volumeClaimTemplates?: KubeObject[] } }).spec
  const claimed = claims.map(({ metadata: { name } }) => ({ name, persistentVolumeClaim: { claimName: `${name}-0` } }))
  return {
    apiVersion: 'v1', kind: 'Pod',
    metadata: { name: `${object.metadata.name}-0`, ...namespace === undefined ? {} : { namespace }, labels: template.metadata.labels },
    spec: { ...spec, volumes: [...spec.volumes, ...claimed] }
  }
}

const irregular: Readonly<Record<string, string>> = { NetworkPolicy: 'networkpolicies' }
const ofNoNamespace = new Set([
  'Namespace', 'ClusterRole', 'ClusterRoleBinding', 'CSIDriver', 'CustomResourceDefinition', 'ClusterSPIFFEID'
])

/** Where an object is in the API. */
export function pathOf ({ apiVersion, kind, metadata: { name, namespace } }: KubeObject): string {
  const base = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`
  if ((namespace === undefined) !== ofNoNamespace.has(kind)) throw new Error(`${kind} ${name}: namespace ${namespace}`)
  return `${base}${namespace === undefined ? '' : `/namespaces/${namespace}`}/${irregular[kind] ?? `${kind.toLowerCase()}s`}/${name}`
}
