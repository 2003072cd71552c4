import { readFile } from 'node:fs/promises'
import { requiredOrEnvironment } from '../../plugins/from-environment.ts'
import { text } from '../../runtime/config-schema.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { OpenToken } from './token-messages.ts'

/** Which token, and its PIN. */
export const tokenKeys = {
  module_path: text.regex(/^\//, 'must be an absolute path'),
  token_label: text.max(32, 'must be 32 characters at most'),
  pin_file: text.optional()
}

export interface TokenConfig { readonly module_path: string, readonly token_label: string, readonly pin_file?: string | undefined }

/** @throws {SpiffeError} `config_invalid`, `file_unusable` */
export async function openTokenOf ({ module_path: modulePath, token_label: tokenLabel, pin_file: file }: TokenConfig): Promise<OpenToken> {
  return { modulePath, tokenLabel, pin: await readPin(file) }
}

async function readPin (file: string | undefined): Promise<string> {
  if (file === undefined) return requiredOrEnvironment(undefined, 'pin_file', 'ASSAY_PKCS11_PIN')
  try {
    return (await readFile(file, 'utf8')).replace(/\r?\n$/, '')
  } catch (error) {
    throw new SpiffeError('file_unusable', `cannot read the PIN from ${file}: ${(error as Error).message}`, { cause: error })
  }
}
