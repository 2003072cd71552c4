import type { Labels } from './node-pod.ts'

/** Whether a pod belongs to the mesh, and why. */
export interface Enrolment {
  readonly enrolled: boolean
  /** For people, e.g. `the namespace's label assay.io/mesh is enabled`. */
  readonly why: string
  /** Values of the label that mean nothing, and whose they are: somebody meant something else by them. */
  readonly mistaken: readonly string[]
}

/**
 * What labels say: the pod's own if it is one of the two words, else its namespace's, else that it does not belong to the mesh.
 * @param namespace `undefined`: labels of namespaces do not count
 */
export function enrolmentOf (label: string, pod: Labels, namespace: Labels | undefined): Enrolment {
  const places = [['the pod', pod[label]], ['the namespace', namespace?.[label]]] as const
  const said = places.find(([, value]) => value === 'enabled' || value === 'disabled')
  const mistaken = places.filter(([, value]) => value !== undefined && value !== 'enabled' && value !== 'disabled')
    .map(([whose, value]) => `${whose}'s label ${label} is ${JSON.stringify(value)}, neither enabled nor disabled`)
  if (said === undefined) {
    const why = namespace === undefined ? `the pod has no label ${label} that counts`
      : `neither the pod nor its namespace has a label ${label} that counts`
    return { enrolled: false, why, mistaken }
  }
  const [whose, value] = said
  return { enrolled: value === 'enabled', why: `${whose}'s label ${label} is ${value}`, mistaken }
}
