import { SpiffeError } from './errors.ts'
import { isStorableText } from './storable-text.ts'

/** One text with one or more policy documents, YAML or JSON. */
export interface PolicyDocumentText {
  /** What messages call it, e.g. the file's path; no two of a set have the same. */
  readonly name: string
  readonly text: string
}

/** What one set of policies is called, and how it came to be. */
export interface PolicyVersionFacts {
  /** 1, 2, …; the newest is the active one. */
  readonly number: number
  /** SHA-256 of the texts, in hexadecimal. */
  readonly revision: string
  /** The version it replaced; 0: none. */
  readonly parent: number
  /** A SPIFFE ID, or a local user. */
  readonly appliedBy: string
  readonly appliedAt: Date
  readonly comment: string
  readonly rules: number
  readonly documents: number
  /** Of all names and texts, in UTF-8. */
  readonly bytes: number
  /** Lists of selectors that rules name, `type:value` each; each list once. */
  readonly selectors: ReadonlyArray<readonly string[]>
}

export interface PolicyVersion extends PolicyVersionFacts {
  /** In the order in which they were given. */
  readonly texts: readonly PolicyDocumentText[]
}

/** A set that has been read and found good. */
export type PolicyVersionDraft = Omit<PolicyVersion, 'number' | 'parent' | 'appliedAt' | 'documents' | 'bytes'>

/**
 * Of one set. `bytes`: names and texts together, in UTF-8. `selectorLists`: different ones that rules name. `bundleBytes`: of one bundle of
 * Rego as the archive it is, of which base64 makes a third more in a text.
 */
export const policyLimits = {
  texts: 1_024, bytes: 8 * 1_048_576, nameLength: 1_024, selectorLists: 1_024, commentLength: 1_000, bundles: 16, bundleBytes: 4 * 1_048_576
}

/** Versions that are remembered, the active one among them. */
export const policyHistoryLength = 100

/** Of names and texts together, in UTF-8. */
export function bytesOf (texts: readonly PolicyDocumentText[]): number {
  return texts.reduce((sum, { name, text }) => sum + Buffer.byteLength(name) + Buffer.byteLength(text), 0)
}

/** What can be said of texts without reading them. @throws {SpiffeError} `policy_malformed` */
export function checkPolicyTexts (texts: readonly PolicyDocumentText[]): void {
  const refuse = (reason: string) => new SpiffeError('policy_malformed', reason)
  if (texts.length === 0) throw refuse('there are no documents; to let everything in, apply Settings that say so')
  if (texts.length > policyLimits.texts) throw refuse(`there are ${texts.length} texts, at most ${policyLimits.texts} are allowed`)
  const bytes = bytesOf(texts)
  if (bytes > policyLimits.bytes) throw refuse(`the texts have ${bytes} bytes, at most ${policyLimits.bytes} are allowed`)
  const names = new Set<string>()
  for (const { name, text } of texts) {
    if (name === '' || name.length > policyLimits.nameLength) {
      throw refuse(`the name of a text must have 1 to ${policyLimits.nameLength} characters`)
    }
    if (!isStorableText(name) || !isStorableText(text)) throw refuse(`${JSON.stringify(name)} contains U+0000 or a lone surrogate`)
    if (names.has(name)) throw refuse(`two texts have the name ${JSON.stringify(name)}`)
    names.add(name)
  }
}

/** @throws {SpiffeError} `argument_invalid` */
export function checkPolicyComment (comment: string): void {
  if (comment.length > policyLimits.commentLength) {
    throw new SpiffeError('argument_invalid',
      `the comment has ${comment.length} characters, at most ${policyLimits.commentLength} are allowed`)
  }
  if (!isStorableText(comment)) throw new SpiffeError('argument_invalid', 'the comment contains U+0000 or a lone surrogate')
}
