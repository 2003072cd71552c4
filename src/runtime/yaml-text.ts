import { isCollection, LineCounter, parseAllDocuments, type Document } from 'yaml'

/** One YAML document of a text. */
export interface YamlDocument {
  readonly raw: unknown
  /** `name:line` of the deepest part of the path that exists; of the document's begin for an empty path, the bare name in an empty text. */
  where (path: readonly PropertyKey[]): string
}

/** What cannot be read at all, and where. */
export interface YamlProblem { readonly where: string, readonly rule: string }

/**
 * Reads YAML 1.2, of which JSON is a part, strictly: no key twice, no tag that nobody knows, no aliases that expand without end.
 * @param name for messages
 * @returns as many documents as the text has; an empty text has one, whose value is `null`
 */
export function parseYaml (name: string, text: string): readonly YamlDocument[] | { readonly problems: readonly YamlProblem[] } {
  const lines = new LineCounter()
  // The library's own warnings would show keys on standard error.
  const options = { strict: true, uniqueKeys: true, version: '1.2', lineCounter: lines, prettyErrors: false, logLevel: 'error' } as const
  const parsed = parseAllDocuments(text, options)
  const documents: readonly Document[] = 'empty' in parsed ? [] : parsed
  const at = (offset: number) => `${name}:${lines.linePos(offset).line}`
  const broken = documents.flatMap(({ errors, warnings }) => [...errors, ...warnings])
  if (broken.length > 0) return { problems: broken.map(({ code, pos }) => ({ where: at(pos[0]), rule: syntaxRule(code) })) }
  if (documents.length === 0) return [{ raw: null, where: () => name }]
  const read: YamlDocument[] = []
  for (const document of documents) {
    const raw = rawOf(document)
    if (raw === tooFar) return { problems: [{ where: name, rule: 'has aliases that expand too far' }] }
    read.push({ raw, where: path => placeOf(path, document, at) ?? name })
  }
  return read
}

const tooFar = Symbol('too far')

function rawOf (document: Document): unknown {
  try {
    return document.toJS({ maxAliasCount: 100 })
  } catch {
    return tooFar
  }
}

function placeOf (path: readonly PropertyKey[], document: Document, at: (offset: number) => string): string | undefined {
  for (let end = path.length; end > 0; end--) {
    const parent = end === 1 ? document.contents : document.getIn(path.slice(0, end - 1), true)
    if (!isCollection(parent)) continue
    const item = parent.items.find((entry, index) => keyOf(entry) === path[end - 1] || index === path[end - 1])
    const range = (item as { key?: { range?: [number] }, range?: [number] } | undefined)
    const start = range?.key?.range?.[0] ?? range?.range?.[0]
    if (start !== undefined) return at(start)
  }
  return path.length === 0 && document.contents !== null ? at(document.contents.range?.[0] ?? 0) : undefined
}

function keyOf (entry: unknown): unknown {
  return (entry as { key?: { value?: unknown } }).key?.value
}

function syntaxRule (code: string): string {
  return code === 'DUPLICATE_KEY' ? 'the same key twice in one map' : `not valid YAML (${code.toLowerCase().replaceAll('_', ' ')})`
}
