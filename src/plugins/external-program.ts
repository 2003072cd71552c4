import { resolve } from 'node:path'
import { z } from 'zod'
import { text } from '../runtime/config-schema.ts'
import { formatHcl } from '../runtime/format-hcl.ts'

/** A program that is a plugin of SPIRE's protocol, as a configuration names it. */
export interface ExternalProgram {
  /** Absolute. Never looked for on PATH. */
  readonly command: string
  readonly args: readonly string[]
  /** SHA-256 of the file, hex in lower case. */
  readonly checksum: string | undefined
  /** What it is configured with: HCL, or a file that holds it. Secret. */
  readonly data: { readonly hcl: string } | { readonly file: string } | undefined
}

/** One block of `plugins` with a `plugin_cmd`, under SPIRE's names. */
export const externalProgramSchema = z.strictObject({
  plugin_cmd: text,
  plugin_args: z.array(z.string()).default([]),
  plugin_checksum: z.string().regex(/^[0-9A-Fa-f]{64}$/, 'must be the file\'s SHA-256: 64 hexadecimal digits').optional(),
  plugin_data: z.record(z.string(), z.unknown()).nullish().transform((data, context) => {
    try {
      return formatHcl(data ?? {})
    } catch (error) {
      // A value that HCL has no word for, such as null.
      context.addIssue((error as Error).message)
      return z.NEVER
    }
  }),
  plugin_data_file: text.optional(),
  enabled: z.boolean().optional()
}).transform((block, context): ExternalProgram => {
  const { plugin_data: hcl, plugin_data_file: file } = block
  if (hcl !== '' && file !== undefined) {
    context.addIssue({ code: 'custom', path: ['plugin_data_file'], message: 'is set beside plugin_data; keep one of them' })
  }
  return {
    command: resolve(block.plugin_cmd),
    args: block.plugin_args,
    checksum: block.plugin_checksum?.toLowerCase(),
    data: file !== undefined ? { file } : hcl === '' ? undefined : { hcl }
  }
})
