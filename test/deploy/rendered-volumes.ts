import { chmodSync, chownSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { eventually } from '../fakes/eventually.ts'
import type { RealCluster } from '../kubernetes/real-cluster.ts'

export interface VolumeSpec { readonly name: string, readonly [source: string]: unknown }

export interface VolumesOf {
  readonly cluster: RealCluster
  readonly pod: {
    readonly name: string, readonly namespace: string, readonly uid: string, readonly account: string, readonly fsGroup: number
  }
  /** For volumes of this pod. */
  readonly folder: string
  /** Where a path of the node is. */
  readonly onNode: (path: string) => string
  readonly patienceMs: number
}

interface Files { readonly name: string, readonly items?: ReadonlyArray<{ readonly key: string, readonly path: string }> }

interface Projected {
  readonly serviceAccountToken?: { readonly path: string, readonly audience?: string, readonly expirationSeconds: number }
  readonly configMap?: Files
  readonly downwardAPI?: { readonly items: ReadonlyArray<{ readonly path: string, readonly fieldRef: { readonly fieldPath: string } }> }
}

interface Sources {
  readonly configMap?: Files
  readonly hostPath?: { readonly path: string }
  readonly projected?: { readonly sources: readonly Projected[] }
}

/** As a kubelet makes a volume, from what the API server has. @returns its folder */
export async function makeVolume ({ name, ...source }: VolumeSpec, of: VolumesOf): Promise<string> {
  const { configMap, hostPath, projected } = source as Sources
  if (hostPath !== undefined) {
    const folder = of.onNode(hostPath.path)
    mkdirSync(folder, { recursive: true })
    return folder
  }
  const folder = join(of.folder, name)
  mkdirSync(folder, { recursive: true })
  const sources = configMap === undefined ? projected?.sources : [{ configMap }]
  for (const { configMap, serviceAccountToken, downwardAPI } of sources ?? []) {
    if (configMap !== undefined) await writeFiles(configMap, folder, of)
    if (serviceAccountToken !== undefined) writeFileSync(join(folder, serviceAccountToken.path), await tokenOf(of, serviceAccountToken))
    for (const { path, fieldRef: { fieldPath } } of downwardAPI?.items ?? []) {
      if (fieldPath !== 'metadata.namespace') throw new Error(`what ${fieldPath} is nobody says here`)
      writeFileSync(join(folder, path), of.pod.namespace)
    }
  }
  if (sources === undefined) {
    // An empty one, or one that was claimed.
    chownSync(folder, 0, of.pod.fsGroup)
    chmodSync(folder, 0o2777)
  }
  return folder
}

/** Waits as a pod waits: until the keys that it names are there. */
async function writeFiles ({ name, items }: Files, folder: string, { cluster, pod, patienceMs }: VolumesOf): Promise<void> {
  const data = async () => (await cluster.ask('GET', `/api/v1/namespaces/${pod.namespace}/configmaps/${name}`))['data'] as
    Readonly<Record<string, string>> | undefined ?? {}
  await eventually(`ConfigMap ${name} is as ${pod.name} wants it`, async () => {
    const found = await data()
    return (items ?? []).every(({ key }) => Object.hasOwn(found, key))
  }, patienceMs)
  const files = await data()
  const wanted = items ?? Object.keys(files).map(key => ({ key, path: key }))
  for (const { key, path } of wanted) writeFileSync(join(folder, path), files[key] ?? '')
}

async function tokenOf (
  { cluster, pod }: VolumesOf, { audience, expirationSeconds }: NonNullable<Projected['serviceAccountToken']>
): Promise<string> {
  const path = `/api/v1/namespaces/${pod.namespace}/serviceaccounts/${pod.account}/token`
  const boundObjectRef = { apiVersion: 'v1', kind: 'Pod', name: pod.name, uid: pod.uid }
  const { status } = await cluster.ask('POST', path, {
    spec: { expirationSeconds, boundObjectRef, ...audience === undefined ? {} : { audiences: [audience] } }
  })
  return (status as { token: string }).token
}
