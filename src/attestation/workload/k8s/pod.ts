import { z } from 'zod'

const text = z.string().nullish().transform(value => value ?? '')
const list = <T extends z.ZodType>(item: T) => z.array(item).nullish().transform(items => items ?? [])

const containerStatus = z.object({ name: z.string(), containerID: text, image: text, imageID: text })

/** What of a pod counts here. */
const podSchema = z.object({
  metadata: z.object({
    name: z.string().min(1),
    namespace: z.string().min(1),
    uid: z.string().min(1),
    labels: z.record(z.string(), z.string()).nullish().transform(labels => labels ?? {}),
    ownerReferences: list(z.object({ kind: z.string(), name: z.string(), uid: z.string() }))
  }),
  spec: z.object({ serviceAccountName: text, nodeName: text, hostNetwork: z.boolean().nullish().transform(value => value === true) }),
  status: z.object({ phase: text, containerStatuses: list(containerStatus), initContainerStatuses: list(containerStatus) })
})

/** As the kubelet tells it; lists and maps that it leaves out are empty. */
export type Pod = z.output<typeof podSchema>
export type ContainerStatus = Pod['status']['containerStatuses'][number]

const podListSchema = z.object({ items: list(z.unknown()) })

/**
 * Reads what the kubelet answers to `/pods`.
 * @returns by UID
 * @throws {SyntaxError} not JSON; {z.ZodError} no list of pods, or a pod that lacks what every pod has
 */
export function parsePodList (text: string): ReadonlyMap<string, Pod> {
  const { items } = podListSchema.parse(JSON.parse(text))
  return new Map(items.map(item => {
    const pod = podSchema.parse(item)
    return [pod.metadata.uid.toLowerCase(), pod]
  }))
}
