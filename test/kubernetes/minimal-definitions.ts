import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseYaml } from '../../src/runtime/yaml-text.ts'
import { eventually } from '../fakes/eventually.ts'
import type { RealCluster } from './real-cluster.ts'

const deployed = join(import.meta.dirname, '../../deploy/crds')
const kinds = ['ClusterSPIFFEID', 'ClusterStaticEntry', 'ClusterFederatedTrustDomain']
const plurals = ['clusterspiffeids', 'clusterstaticentries', 'clusterfederatedtrustdomains']

/** Gives a cluster the definitions of deploy/crds, or where there are none, ones that take anything; returns once it serves them. */
export async function defineResources (cluster: RealCluster): Promise<void> {
  const definitions = existsSync(deployed) ? readdirSync(deployed).filter(name => name.endsWith('.yaml')).map(read) : kinds.map(minimal)
  for (const definition of definitions) {
    await cluster.ask('POST', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', definition as object)
  }
  for (const plural of plurals) {
    const path = `/apis/spire.spiffe.io/v1alpha1/${plural}`
    await eventually(`${plural} are served`, () => cluster.ask('GET', path).then(() => true, () => false), 120_000)
  }
}

function read (name: string): unknown {
  const documents = parseYaml(name, readFileSync(join(deployed, name), 'utf8'))
  if ('problems' in documents) throw new Error(JSON.stringify(documents.problems))
  return documents[0]?.raw
}

function minimal (kind: string, index: number): object {
  const plural = plurals[index] as string
  const anything = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true }
  return {
    apiVersion: 'apiextensions.k8s.io/v1', kind: 'CustomResourceDefinition', metadata: { name: `${plural}.spire.spiffe.io` },
    spec: {
      group: 'spire.spiffe.io', scope: 'Cluster', names: { kind, plural, singular: kind.toLowerCase(), listKind: `${kind}List` },
      versions: [{
        name: 'v1alpha1', served: true, storage: true, subresources: { status: {} },
        schema: { openAPIV3Schema: { type: 'object', properties: { spec: anything, status: anything } } }
      }]
    }
  }
}
