import { parseYaml } from '../../runtime/yaml-text.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { isJsonObject, parseStrictJson, type JsonObject, type JsonValue } from '../../spiffe/strict-json.ts'
import { isCovered, rootsOverlap } from './bundle-roots.ts'

type Tree = Record<string, JsonValue>

/** Files that OPA reads into `data`; other JSON and YAML in a bundle is not. */
export function isDataFile (path: string): boolean { return /(?:^|\/)data\.(?:json|ya?ml)$/.test(path) }

/**
 * Merges a bundle's documents, each under its folder's path: `a/b/data.json` becomes `data.a.b`.
 * @throws {SpiffeError} `rego_bundle_invalid` when two say something about one place, or one says something outside of the roots
 */
export function readBundleData (files: ReadonlyMap<string, Buffer>, roots: readonly string[]): JsonObject {
  const data = emptyTree()
  for (const [path, bytes] of files) {
    if (!isDataFile(path)) continue
    const folders = path.split('/').slice(0, -1)
    const value = folders.reduceRight((inner: JsonValue, name): JsonValue => Object.assign(emptyTree(), { [name]: inner }),
      parseDocument(path, bytes))
    if (!isJsonObject(value)) throw invalid(`${path} is no object`)
    mergeInto(data, value, path)
  }
  checkRoots(data, '', roots)
  return data
}

/** Adds what another bundle says. @throws {SpiffeError} `rego_bundle_invalid` */
export function mergeData (parts: ReadonlyArray<{ readonly name: string, readonly data: JsonObject }>): JsonObject {
  const merged = emptyTree()
  for (const { name, data } of parts) mergeInto(merged, data, name)
  return merged
}

function parseDocument (path: string, bytes: Buffer): JsonValue {
  try {
    if (path.endsWith('.json')) return parseStrictJson(bytes, { maxLength: bytes.length, maxDepth: 100 })
    const documents = parseYaml(path, new TextDecoder('utf-8', { fatal: true }).decode(bytes))
    if ('problems' in documents) throw invalid(documents.problems.map(({ where, rule }) => `${where}: ${rule}`).join('; '))
    if (documents.length !== 1) throw invalid(`${path} has more than one document`)
    // Through JSON, so that what only YAML has (times, binaries) is text or is refused.
    return parseStrictJson(JSON.stringify(documents[0]!.raw), { maxLength: 2 * bytes.length + 1024, maxDepth: 100 })
  } catch (error) {
    if (error instanceof SpiffeError && error.code === 'rego_bundle_invalid') throw error
    throw invalid(`${path}: ${(error as Error).message}`, error)
  }
}

function mergeInto (tree: Tree, part: JsonObject, from: string): void {
  for (const [name, value] of Object.entries(part)) {
    const there = tree[name]
    if (there === undefined) tree[name] = isJsonObject(value) ? Object.assign(emptyTree(), value) : value
    else if (isJsonObject(there) && isJsonObject(value)) {
      const copy = Object.assign(emptyTree(), there)
      mergeInto(copy, value, from)
      tree[name] = copy
    } else throw invalid(`${from} says something about ${JSON.stringify(name)}, and another document too`)
  }
}

function checkRoots (value: JsonValue, path: string, roots: readonly string[]): void {
  if (path !== '' && isCovered(roots, path)) return
  if (roots.includes('')) return
  const isOnTheWay = path === '' || roots.some(root => rootsOverlap(root, path))
  if (!isOnTheWay || !isJsonObject(value)) {
    throw invalid(`its roots ${JSON.stringify(roots)} do not have data.${path.replaceAll('/', '.')} inside`)
  }
  for (const [name, member] of Object.entries(value)) checkRoots(member, path === '' ? name : `${path}/${name}`, roots)
}

function emptyTree (): Tree { return Object.create(null) as Tree }

function invalid (rule: string, cause?: unknown): SpiffeError { return new SpiffeError('rego_bundle_invalid', rule, { cause }) }
