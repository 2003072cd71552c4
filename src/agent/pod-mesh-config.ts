import { z } from 'zod'
import { durationSeconds, text } from '../runtime/config-schema.ts'

/** Which pods of the node belong to the mesh. */
export interface PodMeshConfig {
  /** Key of the label, on pods and namespaces. */
  readonly label: string
  /** Whether namespaces' labels count; they are asked for at the API server. */
  readonly namespaceLabels: boolean
  /** `undefined`: the cluster that the agent runs in. */
  readonly kubeconfig: string | undefined
  /** A pod that no entry gives an identity: it does not start, or it is left alone until one does. */
  readonly passWithoutIdentity: boolean
  /** Between two looks at labels. */
  readonly intervalMs: number
  /** Within which a pod that starts must be served. */
  readonly addWithinMs: number
}

/** Of Kubernetes: a name of at most 63, after a prefix that is a name of DNS. */
const labelKey = z.string().regex(
  /^(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9](?:[-\w.]{0,61}[A-Za-z0-9])?$/, 'must be a label\'s key, such as assay.io/mesh'
)

export const podMeshSchema = z.strictObject({
  label: labelKey.default('assay.io/mesh'),
  namespace_labels: z.boolean().default(true),
  kube_config_file: text.optional(),
  without_identity: z.enum(['refuse', 'pass']).default('refuse'),
  interval: durationSeconds(100).default(2),
  add_timeout: durationSeconds(1_000).default(20)
})

export function podMeshConfigOf (pods: z.output<typeof podMeshSchema>): PodMeshConfig {
  return {
    label: pods.label,
    namespaceLabels: pods.namespace_labels,
    kubeconfig: pods.kube_config_file,
    passWithoutIdentity: pods.without_identity === 'pass',
    intervalMs: pods.interval * 1_000,
    addWithinMs: pods.add_timeout * 1_000
  }
}
