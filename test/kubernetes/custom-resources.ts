import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { eventually } from '../fakes/eventually.ts'
import { plurals } from './custom-resource-examples.ts'
import type { RealCluster } from './real-cluster.ts'
import { yamlObjects } from './yaml-objects.ts'

const group = '/apis/spire.spiffe.io/v1alpha1'
const definitions = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions'

/** The definitions of deploy/crds, as objects. */
export function customResourceDefinitions (): readonly Definition[] {
  return Object.values(plurals).map(plural =>
    yamlObjects(plural, readFileSync(join(import.meta.dirname, `../../deploy/crds/${plural}.yaml`), 'utf8'))[0] as unknown as Definition)
}

export interface Definition {
  readonly metadata: { readonly name: string }
  readonly spec: { readonly versions: ReadonlyArray<{ readonly schema: { readonly openAPIV3Schema: Schema } }> }
}

export interface Schema {
  readonly type?: string
  readonly properties?: Readonly<Record<string, Schema>>
  readonly items?: Schema
  readonly 'x-kubernetes-validations'?: ReadonlyArray<{ readonly rule: string, readonly message?: string }>
}

/** Gives a cluster the definitions of deploy/crds, and waits until it serves them. */
export async function installCustomResources (cluster: RealCluster, patienceMs = 120_000): Promise<void> {
  for (const definition of customResourceDefinitions()) await cluster.ask('POST', `${definitions}?fieldValidation=Strict`, definition)
  for (const plural of Object.values(plurals)) {
    await eventually(`${plural} are served`, () => cluster.ask('GET', `${group}/${plural}`).then(() => true, () => false), patienceMs)
  }
}

/** @param how of the API, e.g. `?dryRun=All` */
export async function createResource (cluster: RealCluster, resource: object, how = ''): Promise<Readonly<Record<string, unknown>>> {
  return await cluster.ask('POST', `${group}/${plurals[(resource as { kind: string }).kind]}${how}`, resource)
}

export async function readResource (cluster: RealCluster, kind: string, name: string): Promise<Readonly<Record<string, unknown>>> {
  return await cluster.ask('GET', `${group}/${plurals[kind]}/${name}`)
}

export async function deleteResource (cluster: RealCluster, kind: string, name: string): Promise<void> {
  await cluster.ask('DELETE', `${group}/${plurals[kind]}/${name}`)
}

/** Gives a resource other fields in its spec, as it is now. */
export async function changeResource (cluster: RealCluster, kind: string, name: string, fields: object): Promise<void> {
  const path = `${group}/${plurals[kind]}/${name}`
  await changeObject(cluster, path, stored => ({ ...stored, spec: { ...stored['spec'] as object, ...fields } }))
}

type Stored = Readonly<Record<string, unknown>>

/** Reads, changes and writes an object, again if somebody else wrote it in between. @param path in the API */
export async function changeObject (cluster: RealCluster, path: string, change: (stored: Stored) => object): Promise<void> {
  await eventually(`${path} is changed`, async () => {
    try {
      await cluster.ask('PUT', path, change(await cluster.ask('GET', path)))
      return true
    } catch (error) {
      if (/: 409 /.test((error as Error).message)) return false
      throw error
    }
  })
}
