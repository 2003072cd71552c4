import { createHash, type Hash } from 'node:crypto'
import { parseYaml } from '../../runtime/yaml-text.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { parseStrictJson } from '../../spiffe/strict-json.ts'
import { isDataFile } from './bundle-data.ts'

/** Names in `.signatures.json` → those of OpenSSL. MD5 and SHA-1, which OPA also takes, prove nothing any more. */
const algorithms: Readonly<Record<string, string>> = {
  'SHA-224': 'sha224', 'SHA-256': 'sha256', 'SHA-384': 'sha384', 'SHA-512': 'sha512', 'SHA-512-224': 'sha512-224',
  'SHA-512-256': 'sha512-256'
}

/** A number as it was written: signers hash its text, so that 1.0 is not 1. */
class NumberText {
  readonly text: string

  constructor (text: string) { this.text = text }
}

/**
 * The hash of a bundle's file as `opa sign` computes it: of data and manifest the document's, whatever its white space and the order of
 * its names;
 * of all other files the bytes'.
 * @returns lower-case hex; `undefined`: no such algorithm
 * @throws {SpiffeError} `json_malformed`, `rego_bundle_invalid`
 */
export function hashBundleFile (path: string, bytes: Buffer, algorithm: string): string | undefined {
  const name = algorithms[algorithm]
  if (name === undefined) return undefined
  const hash = createHash(name)
  if (!isDataFile(path) && !/(?:^|\/)\.manifest$/.test(path)) return hash.update(bytes).digest('hex')
  addValue(hash, isYaml(path) ? readYaml(path, bytes) : readJson(bytes))
  return hash.digest('hex')
}

function isYaml (path: string): boolean { return /\.ya?ml$/.test(path) }

function readJson (bytes: Buffer): unknown {
  parseStrictJson(bytes, { maxLength: bytes.length, maxDepth: 100 })
  return JSON.parse(bytes.toString(), (_name, value: unknown, context?: { readonly source?: string }) =>
    typeof value === 'number' ? new NumberText(context?.source ?? String(value)) : value) as unknown
}

function readYaml (path: string, bytes: Buffer): unknown {
  const documents = parseYaml(path, bytes.toString())
  if ('problems' in documents || documents.length !== 1) throw new SpiffeError('rego_bundle_invalid', `${path} is not one YAML document`)
  return documents[0]!.raw
}

function addValue (hash: Hash, value: unknown): void {
  if (Array.isArray(value)) {
    hash.update('[')
    for (const [index, item] of value.entries()) {
      if (index > 0) hash.update(',')
      addValue(hash, item)
    }
    hash.update(']')
  } else if (value instanceof NumberText) {
    hash.update(value.text)
  } else if (typeof value === 'object' && value !== null) {
    hash.update('{')
    for (const [index, [name, member]] of Object.entries(value).toSorted(([a], [b]) => Buffer.compare(Buffer.from(a),
      Buffer.from(b))).entries()) {
      hash.update(`${index > 0 ? ',' : ''}${printText(name)}:`)
      addValue(hash, member)
    }
    hash.update('}')
  } else hash.update(typeof value === 'string' ? printText(value) : JSON.stringify(value))
}

/** As Go's encoder writes it. */
function printText (text: string): string { return JSON.stringify(text).replaceAll('\u2028', '\\u2028').replaceAll('\u2029', '\\u2029') }
