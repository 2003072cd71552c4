import { z } from 'zod'
import { formatProblems, readConfig } from '../../runtime/config-file.ts'
import { parsedBy } from '../../runtime/config-schema.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { parseSpiffeId, parseTrustDomainOrId } from '../../spiffe/spiffe-id.ts'
import type { EntryInit } from '../../wire/generated/types.ts'
import { encodeSpiffeId } from '../../wire/spiffe-id-codec.ts'
import { readInputText } from '../read-input.ts'
import type { Terminal } from '../terminal.ts'

const ttl = z.int().min(0).max(2_147_483_647).optional()

/** SPIRE's form of the file, key by key. */
const schema = z.strictObject({
  entries: z.array(z.strictObject({
    entry_id: z.string().optional(),
    spiffe_id: parsedBy(parseSpiffeId),
    parent_id: parsedBy(parseSpiffeId),
    selectors: z.array(z.strictObject({ type: z.string(), value: z.string() })).min(1, 'at least one selector is required'),
    x509_svid_ttl: ttl,
    jwt_svid_ttl: ttl,
    federates_with: z.array(parsedBy(parseTrustDomainOrId)).optional(),
    dns_names: z.array(z.string()).optional(),
    admin: z.boolean().optional(),
    downstream: z.boolean().optional(),
    store_svid: z.boolean().optional(),
    hint: z.string().optional(),
    entryExpiry: z.int().min(0).optional(),
    additional_attributes: z.strictObject({
      disable_x509_svid_prefetch: z.boolean().optional(),
      jwt_svid_include_jti: z.boolean().optional()
    }).optional()
  }))
})

/** Reads a `-data` file. @throws {SpiffeError} `file_unusable`, naming file, line and key */
export async function readEntryData (path: string, terminal: Terminal): Promise<EntryInit[]> {
  const name = path === '-' ? 'standard input' : path
  const reading = readConfig(schema, { file: { name, text: await readInputText(path, terminal) }, maxLength: 64 * 1_048_576 })
  if (reading.value === undefined) {
    throw new SpiffeError('file_unusable', formatProblems(reading.problems), { details: { problems: reading.problems } })
  }
  return reading.value.entries.map(entry => ({
    id: entry.entry_id,
    spiffeId: encodeSpiffeId(entry.spiffe_id),
    parentId: encodeSpiffeId(entry.parent_id),
    selectors: entry.selectors,
    x509SvidTtl: entry.x509_svid_ttl,
    jwtSvidTtl: entry.jwt_svid_ttl,
    federatesWith: entry.federates_with,
    dnsNames: entry.dns_names,
    admin: entry.admin,
    downstream: entry.downstream,
    storeSvid: entry.store_svid,
    hint: entry.hint,
    expiresAt: entry.entryExpiry,
    additionalAttributes: entry.additional_attributes && {
      disableX509SvidPrefetch: entry.additional_attributes.disable_x509_svid_prefetch,
      jwtSvidIncludeJti: entry.additional_attributes.jwt_svid_include_jti
    }
  }))
}
