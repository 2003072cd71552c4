// A process that loads a PKCS#11 module and does one call after the other: a module that hangs or crashes takes no more with it.
import { ck, Cryptoki, CryptokiError } from './cryptoki.ts'
import { TokenKeys } from './token-keys.ts'
import type { OpenToken, TokenReply, TokenRequest } from './token-messages.ts'

/** What tokens say of data that another key has encrypted; some have no word for it. */
const unreadable = new Set<number>([
  ck.CKR_GENERAL_ERROR, ck.CKR_AEAD_DECRYPT_FAILED, ck.CKR_ENCRYPTED_DATA_INVALID, ck.CKR_ENCRYPTED_DATA_LEN_RANGE
])
let keys: TokenKeys | undefined

process.on('disconnect', () => process.exit(0))
process.on('message', (request: TokenRequest) => {
  // Flushed before the next one is begun, which may hang.
  process.send?.(replyTo(request))
})

function replyTo (request: TokenRequest): TokenReply {
  const { id } = request
  try {
    return { id, bytes: answer(request) }
  } catch (error) {
    const { message } = error as Error
    const isUnreadable = request.call === 'decrypt' && error instanceof CryptokiError && unreadable.has(error.rv)
    if (isUnreadable) return { id, failed: message, why: 'data' }
    const isPin = error instanceof CryptokiError && (error.rv === ck.CKR_PIN_INCORRECT || error.rv === ck.CKR_PIN_LOCKED)
    return { id, failed: message, why: isPin ? 'pin' : request.call === 'open' && !(error instanceof CryptokiError) ? 'module' : 'token' }
  }
}

function answer (request: TokenRequest): Uint8Array | undefined {
  if (request.call === 'open') return openToken(request.token)
  if (keys === undefined) throw new Error('no token is open')
  if (request.call === 'create') return keys.create(request.name, request.type)
  if (request.call === 'sign') return keys.sign(request.name, request.type, request.digest ?? new Uint8Array())
  if (request.call === 'encrypt') return keys.encrypt(request.name, request.data)
  if (request.call === 'decrypt') return keys.decrypt(request.name, request.data)
  if (request.call === 'publicKeyOf') return keys.publicKeyOf(request.name)
  keys.remove(request.name)
  return undefined
}

function openToken ({ modulePath, tokenLabel, pin }: OpenToken): undefined {
  const cryptoki = new Cryptoki(modulePath)
  keys = new TokenKeys(cryptoki, cryptoki.openSession(tokenLabel, pin))
  return undefined
}
