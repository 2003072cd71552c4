import { parseYaml } from '../../runtime/yaml-text.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { findingCatalogue, type Finding, type FindingCode } from './finding.ts'
import { listOf, recordOf, textOf, type Raw } from './raw-fields.ts'

/** One Kubernetes object. */
export interface Manifest {
  readonly apiVersion: string
  readonly kind: string
  readonly name: string
  /** Empty for what belongs to no namespace, or does not say. */
  readonly namespace: string
  readonly body: Raw
  /** `file:line` of a part of it; absent for what did not come from a file. */
  readonly where?: ((path: readonly PropertyKey[]) => string) | undefined
}

/** More than any cluster is rendered from at once. */
const maxManifests = 50_000

/**
 * Reads a stream of YAML documents, such as Helm and Kustomize print; JSON is a part of it. `List`s are taken apart, empty documents left
 * out.
 * @param name for messages
 * @throws {SpiffeError} `file_unusable`
 */
export function readManifests (name: string, text: string): readonly Manifest[] {
  const documents = parseYaml(name, text)
  if ('problems' in documents) throw unusable(documents.problems.map(({ where, rule }) => `${where}: ${rule}`).join('; '))
  const found: Manifest[] = []
  for (const document of documents) {
    const { raw } = document
    if (raw === null || raw === undefined) continue
    const items = recordOf(raw)['kind'] === 'List' ? listOf(recordOf(raw)['items']) : [raw]
    for (const [index, item] of items.entries()) {
      const inside = items.length === 1 && item === raw ? [] : ['items', index]
      found.push(manifestOf(item, path => document.where([...inside, ...path])))
      if (found.length > maxManifests) throw unusable(`${name} has more than ${maxManifests} objects`)
    }
  }
  return found
}

/** @throws {SpiffeError} `file_unusable` for what is no Kubernetes object */
export function manifestOf (raw: unknown, where?: Manifest['where']): Manifest {
  const body = recordOf(raw)
  const metadata = recordOf(body['metadata'])
  const [apiVersion, kind] = [textOf(body['apiVersion']), textOf(body['kind'])]
  if (apiVersion === '' || kind === '') throw unusable(`${where?.([]) ?? 'an object'} has no apiVersion or no kind`)
  return { apiVersion, kind, name: textOf(metadata['name']), namespace: textOf(metadata['namespace']), body, where }
}

/** @param path of the part that is meant, e.g. `['spec', 'ttl']` */
export function findingAt (manifest: Manifest, path: readonly PropertyKey[], code: FindingCode, message: string): Finding {
  const { kind, name, namespace, where } = manifest
  const about = [kind, ...namespace === '' ? [] : [namespace], name === '' ? '(no name)' : name].join('/')
  return { code, ...findingCatalogue[code], about, where: where?.(path), message }
}

function unusable (message: string): SpiffeError { return new SpiffeError('file_unusable', message) }
