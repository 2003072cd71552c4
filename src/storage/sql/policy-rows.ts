import { promisify } from 'node:util'
import { gunzip, gzip } from 'node:zlib'
import { SpiffeError } from '../../spiffe/errors.ts'
import { policyLimits, type PolicyDocumentText, type PolicyVersion, type PolicyVersionFacts } from '../../spiffe/policy-version.ts'
import type { PolicyVersionRow } from './schema.ts'

const [compress, decompress] = [promisify(gzip), promisify(gunzip)]

/** A character takes six at the most, as JSON. */
const longestJson = 6 * policyLimits.bytes + 16 * policyLimits.texts

export const policyFactColumns = [
  'number', 'revision', 'parent', 'applied_by', 'applied_at', 'comment', 'rules', 'documents', 'bytes', 'selectors'
] as const

export async function encodePolicyTexts (texts: readonly PolicyDocumentText[]): Promise<Uint8Array> {
  return new Uint8Array(await compress(JSON.stringify(texts.map(({ name, text }) => [name, text]))))
}

export function encodePolicyVersion (version: PolicyVersion, texts: Uint8Array): PolicyVersionRow {
  return {
    number: version.number,
    revision: version.revision,
    parent: version.parent,
    applied_by: version.appliedBy,
    applied_at: version.appliedAt.getTime(),
    comment: version.comment,
    rules: version.rules,
    documents: version.documents,
    bytes: version.bytes,
    selectors: JSON.stringify(version.selectors),
    texts
  }
}

export function decodePolicyFacts (row: Omit<PolicyVersionRow, 'texts'>): PolicyVersionFacts {
  return {
    number: row.number,
    revision: row.revision,
    parent: row.parent,
    appliedBy: row.applied_by,
    appliedAt: new Date(row.applied_at),
    comment: row.comment,
    rules: row.rules,
    documents: row.documents,
    bytes: row.bytes,
    selectors: JSON.parse(row.selectors) as string[][]
  }
}

/** @throws {SpiffeError} `datastore_corrupt` */
export async function decodePolicyVersion (row: PolicyVersionRow): Promise<PolicyVersion> {
  try {
    const json = (await decompress(row.texts, { maxOutputLength: longestJson })).toString('utf8')
    const texts = (JSON.parse(json) as [string, string][]).map(([name, text]) => ({ name, text }))
    return { ...decodePolicyFacts(row), texts }
  } catch (error) {
    throw new SpiffeError('datastore_corrupt', `the texts of policy version ${row.number} cannot be read`, { cause: error })
  }
}
