import { Mailbox } from '../../src/runtime/mailbox.ts'
import type { Channel } from '../../src/rpc/channel.ts'
import type { LocalEndpoint } from '../../src/spiffe/service-endpoint.ts'
import { encodeEndpoint } from '../../src/wire/service-codec.ts'
import { agentSyncService, type ServedPoliciesInit, type SyncRequestInit, type SyncResponse } from '../../src/wire/generated/agent-sync.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { attest, openServerChannel } from './agent-client.ts'
import type { TestServer } from './server.ts'

/** An attested agent that follows a server and says what it has taken over, without serving anybody. */
export interface FollowingAgent extends AsyncDisposable {
  readonly spiffeId: string
  /** For the API's messages. */
  readonly id: { readonly trustDomain: string, readonly path: string }
  /** What it was told, in order. */
  readonly told: readonly SyncResponse[]
  /** From now on it takes in what it is told and says nothing. */
  mute (): void
  /** The same from the first message on that is like this, that one included. */
  muteWhen (isLike: (answer: SyncResponse) => boolean): void
  /** Says what it kept to itself. */
  unmute (): void
  /** Entries whose SVIDs it could not have; said with the next acknowledgement. */
  setUnserved (entryIds: readonly string[]): void
  /** From now on it refuses every set of policies; said with the next acknowledgement. */
  refusePolicies (reason: string): void
  /** Says which endpoints its node has. */
  report (...endpoints: LocalEndpoint[]): void
  /** Goes on at another server, from where it stands. */
  moveTo (server: TestServer): Promise<void>
}

interface Stream { readonly channel: Channel, readonly requests: Mailbox<SyncRequestInit>, readonly ended: Promise<void> }

/** Returns once the agent was told the whole state. @param options what it follows besides: services, policies */
export async function startFollowingAgent (server: TestServer, { mesh = false, policies = false } = {}): Promise<FollowingAgent> {
  const identity = await attest(server)
  const spiffeId = parseCertificate(identity.chain[0] as Uint8Array).uriSans[0] as string
  const told: SyncResponse[] = []
  let muted = false
  let mutesAt: (answer: SyncResponse) => boolean = () => false
  let unservedEntryIds: readonly string[] = []
  let served: ServedPoliciesInit = {}
  let stream = await open(server)

  /** On return the first step has come, with its last message: there always is one, with the bundle. */
  async function open (server: TestServer): Promise<Stream> {
    const channel = openServerChannel(server, identity)
    const requests = new Mailbox<SyncRequestInit>()
    const { promise: first, resolve } = Promise.withResolvers<void>()
    requests.put({ resume: told.at(-1)?.cursor, agentVersion: 'test', mesh, policies: policies ? served : undefined })
    const follow = async () => {
      for await (const answer of channel.client(agentSyncService).sync(requests)) {
        told.push(answer)
        if (policies && answer.policies !== undefined && served.refusal === undefined) {
          served = { version: answer.policies.version, revision: answer.policies.revision }
        }
        muted ||= mutesAt(answer)
        if (answer.more) continue
        acknowledge(requests)
        resolve()
      }
    }
    // How the stream ends is the server's affair: it may be what a test is about.
    const ended = follow().catch(() => {})
    await Promise.race([first, ended])
    return { channel, requests, ended }
  }

  function acknowledge (requests: Mailbox<SyncRequestInit>): void {
    if (!muted) requests.put({ acknowledged: told.at(-1)?.cursor, unservedEntryIds, policies: policies ? served : undefined })
  }

  async function close (): Promise<void> {
    await stream.channel[Symbol.asyncDispose]()
    await stream.ended
  }

  return {
    spiffeId,
    id: { trustDomain: new URL(spiffeId).host, path: new URL(spiffeId).pathname },
    told,
    mute () { muted = true },
    muteWhen (isLike) { mutesAt = isLike },
    unmute () {
      muted = false
      mutesAt = () => false
      acknowledge(stream.requests)
    },
    setUnserved (entryIds) { unservedEntryIds = entryIds },
    refusePolicies (refusal) { served = { ...served, refusal } },
    report (...endpoints) { stream.requests.put({ endpoints: endpoints.map(encodeEndpoint), endpointsChanged: true }) },
    async moveTo (next) {
      await close()
      stream = await open(next)
    },
    [Symbol.asyncDispose]: close
  }
}
