import type { KeyType } from '../../x509/key-type.ts'

/** What the process that talks to a token is told, first of all where it is. The PIN is secret. */
export interface OpenToken { readonly modulePath: string, readonly tokenLabel: string, readonly pin: string }

export type TokenRequest =
  | { readonly id: number, readonly call: 'open', readonly token: OpenToken }
  | { readonly id: number, readonly call: 'create' | 'sign', readonly name: string, readonly type: KeyType, readonly digest?: Uint8Array }
  | { readonly id: number, readonly call: 'publicKeyOf' | 'remove', readonly name: string }
  | { readonly id: number, readonly call: 'encrypt' | 'decrypt', readonly name: string, readonly data: Uint8Array }

/** `bytes` is absent for a key that is gone, and where there is nothing to say. */
export type TokenReply =
  | { readonly id: number, readonly bytes?: Uint8Array | undefined }
  | { readonly id: number, readonly failed: string, readonly why: 'pin' | 'module' | 'data' | 'token' }
