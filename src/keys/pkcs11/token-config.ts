import { readFile } from 'node:fs/promises'
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

const pinVariable = 'ASSAY_PKCS11_PIN'

/** @throws {SpiffeError} `config_invalid`, `file_unusable` */
export async function openTokenOf ({ module_path: modulePath, token_label: tokenLabel, pin_file: file }: TokenConfig): Promise<OpenToken> {
  return { modulePath, tokenLabel, pin: await readPin(file) }
}

async function readPin (file: string | undefined): Promise<string> {
  if (file === undefined) {
    const pin = process.env[pinVariable]
    if (pin === undefined || pin === '') throw new SpiffeError('config_invalid', `pin_file is missing, and ${pinVariable} is not set`)
    return pin
  }
  try {
    return (await readFile(file, 'utf8')).replace(/\r?\n$/, '')
  } catch (error) {
    throw new SpiffeError('file_unusable', `cannot read the PIN from ${file}: ${(error as Error).message}`, { cause: error })
  }
}
