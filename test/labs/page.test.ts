import t from 'tap'
import { differencesOf, quoteInto } from '../../labs/frame/page.ts'

const steps = new Map([['One', ['$ date', '2026-11-26 15:52:48 +0000 UTC']], ['Two', ['$ true', 'ok: it is so']]])
const page = quoteInto('# A lab\n\nWhy.\n\n## One\n\nBefore.\n\n```console\nold\n```\n\nAfter.\n\n## Background\n\nMore.\n', steps)

await t.test('what was printed is put into the block below the heading of its step', async t => {
  t.equal(page, [
    '# A lab', '', 'Why.', '', '## One', '', 'Before.', '', '```console', '$ date', '2026-11-26 15:52:48 +0000 UTC', '```', '', 'After.',
    '', '## Background', '', 'More.', '', '## Two', '', '```console', '$ true', 'ok: it is so', '```', ''
  ].join('\n'))
  t.equal(quoteInto(page, steps), page, 'again: the same')
})

await t.test('a page is held against its lab', async t => {
  t.strictSame(differencesOf(page.replace('15:52', '09:07'), steps), [], 'another time is no difference')
  t.match(differencesOf(page.replace('it is so', 'it is not'), steps), ['Two, line 2'])
  t.match(differencesOf(page, new Map([...steps, ['Three', ['$ x']]])), ['Three: the page does not quote'])
  t.match(differencesOf(page, new Map([...steps].slice(0, 1))), ['Two: the page quotes output'])
  t.match(differencesOf(page, new Map([...steps, ['Two', ['$ true', 'ok: it is so', 'more']]])), ['"(nothing)"'])
})
