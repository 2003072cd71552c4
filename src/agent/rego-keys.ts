import { z } from 'zod'
import { signatureAlgorithms, type VerificationKey } from '../authz/rego/bundle-signature.ts'
import { text } from '../runtime/config-schema.ts'
import { readTextFile } from '../plugins/text-file.ts'

/** By the ID that signatures and RegoBundle documents call a key by. */
export type RegoKeyFiles = z.output<typeof regoKeysSchema>

export const regoKeysSchema = z.record(text, z.strictObject({
  algorithm: z.enum(signatureAlgorithms),
  path: text,
  /** What the signature must claim to be for. */
  scope: text.optional()
})).default({})

/** Keys by which bundles of Rego must be signed; none: they need not be. @throws {SpiffeError} `file_unusable` */
export async function readRegoKeys (files: RegoKeyFiles): Promise<Readonly<Record<string, VerificationKey>>> {
  return Object.fromEntries(await Promise.all(Object.entries(files).map(async ([id, { algorithm, path, scope }]) =>
    [id, { algorithm, key: await readTextFile(path), scope }])))
}
