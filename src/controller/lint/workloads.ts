import type { Manifest } from './manifest.ts'
import { listOf, recordOf, textOf, textsOf, type Raw } from './raw-fields.ts'

/** What runs pods. */
export interface Workload {
  readonly manifest: Manifest
  /** 1 if it does not say; for a DaemonSet too, which has one per node. */
  readonly replicas: number
  readonly containers: readonly Container[]
  /** Names of the ConfigMaps that its containers see. */
  readonly configMaps: ReadonlySet<string>
}

export interface Container {
  readonly name: string
  /** What of SPIFFE it runs, ours or SPIRE's. */
  readonly role: 'server' | 'agent' | undefined
  readonly path: readonly PropertyKey[]
}

const templates: Readonly<Record<string, readonly string[]>> = {
  Pod: [],
  Deployment: ['spec', 'template'],
  StatefulSet: ['spec', 'template'],
  DaemonSet: ['spec', 'template'],
  ReplicaSet: ['spec', 'template'],
  Job: ['spec', 'template'],
  CronJob: ['spec', 'jobTemplate', 'spec', 'template']
}

/** @returns nothing for what runs no pods, and for what another object made */
export function workloadOf (manifest: Manifest): Workload | undefined {
  const path = templates[manifest.kind]
  const isOwned = listOf(recordOf(manifest.body['metadata'])['ownerReferences']).length > 0
  if (path === undefined || isOwned) return undefined
  const place = [...path, 'spec']
  const spec = place.reduce<Raw>((value, key) => recordOf(value[key]), manifest.body)
  const { replicas } = recordOf(manifest.body['spec'])
  const containers = ['initContainers', 'containers'].flatMap(field => listOf(spec[field]).map((raw, index) => {
    const container = recordOf(raw)
    return { name: textOf(container['name']), role: roleOf(container), path: [...place, field, index] }
  }))
  return {
    manifest,
    replicas: typeof replicas === 'number' ? replicas : 1,
    containers,
    configMaps: new Set(listOf(spec['volumes']).map(recordOf).flatMap(configMapsOf))
  }
}

function configMapsOf (volume: Raw): readonly string[] {
  const projected = listOf(recordOf(volume['projected'])['sources']).map(source => textOf(recordOf(recordOf(source)['configMap'])['name']))
  return [textOf(recordOf(volume['configMap'])['name']), ...projected].filter(name => name !== '')
}

function roleOf (container: Raw): Container['role'] {
  const [image = ''] = textOf(container['image']).split('@')
  const name = image.split('/').at(-1)?.replace(/:.*$/, '') ?? ''
  const words = [...textsOf(container['command']), ...textsOf(container['args'])].join(' ')
  for (const role of ['server', 'agent'] as const) {
    const isNamed = name === `spire-${role}` || name === `assay-${role}`
    // Our image has one program; SPIRE's words are `spire-server run`.
    const isRun = new RegExp(`(^|[ /])spire-${role} run\\b|(^|[ /])assay ${role} run\\b`).test(words) ||
      (/^assay\b/.test(name) && new RegExp(`^${role} run\\b`).test(words))
    if (isNamed || isRun) return role
  }
  return undefined
}
