import type { KeySource } from '../../src/oidc/key-source.ts'
import { Waiter } from '../../src/runtime/waiter.ts'
import type { JwtAuthority } from '../../src/spiffe/bundle.ts'
import { signerOf } from '../../src/x509/private-key-signer.ts'
import type { KeyType } from '../../src/x509/key-type.ts'
import { makeTestKey } from '../fakes/authority.ts'

/** A source that says what a test tells it to, when it is told. */
export class FakeSource implements KeySource {
  readonly name = 'fake'
  readonly #waiter = new Waiter()
  #next: readonly JwtAuthority[] | Error | undefined

  /** Keys that it says it has, or what it fails with. */
  say (next: readonly JwtAuthority[] | Error): void {
    this.#next = next
    this.#waiter.wake()
  }

  async * follow (signal: AbortSignal): AsyncGenerator<readonly JwtAuthority[], void, undefined> {
    for (;;) {
      signal.throwIfAborted()
      const said = this.#next
      if (said instanceof Error) throw said
      this.#next = undefined
      if (said !== undefined) yield said
      else await this.#waiter.wait(signal)
    }
  }
}

export function makeKey (keyId: string, more: { readonly type?: KeyType, readonly expiresAt?: Date } = {}): JwtAuthority {
  const { publicKey } = signerOf(makeTestKey(more.type))
  return { keyId, publicKey, tainted: false, ...more.expiresAt === undefined ? {} : { expiresAt: more.expiresAt } }
}
