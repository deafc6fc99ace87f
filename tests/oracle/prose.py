"""A page of plain English, for prompts of a few hundred tokens. Written for these tests."""
TEXT = """The lighthouse keeper woke before dawn, as he had done every morning for thirty-one years, and climbed the hundred \
and twelve steps to the lamp. The sea was calm. A fishing boat was already out beyond the reef, its small light moving \
slowly from left to right, and he wondered whether it was the Martins again, who never seemed to sleep. He trimmed the wick, \
wiped the glass with a soft cloth, and wrote the date, the wind and the height of the water in the book that lay open on \
the table.

Nobody had asked him to keep such a book. When he first came to the island, the harbour office wanted only a monthly \
report: how much oil had been burned, which parts had been replaced, whether any ship had been in trouble. But a month is a \
long time, and he found that he forgot things. So he began to write down a little every day, and after a while the little \
became a page. There were storms in it, and the births of his two daughters, and the winter when the supply boat could not \
land for seven weeks and they had eaten nothing but potatoes, dried fish and the honey that his wife had hidden for \
Christmas.

The first engineer to visit that year arrived in April. She was young, carried a heavy bag of instruments, and asked more \
questions in an hour than the keeper had answered in a year. How far could the light be seen in fog? How often did the \
mechanism stop? Had he ever measured the time of one turn? He had. He showed her the numbers, column after column, and she \
read them standing at the window while her tea went cold. "Do you know what this is?" she asked at last. He said that it was \
his book. "It is thirty-one years of weather," she said, "written by one hand, at one place, at the same hour of the day. \
There is nothing like it on this coast."

In the summer she came back with a professor from the university, who photographed every page. They found that the wind had \
turned more to the south, that the first frost came eleven days later than it used to, and that the water now stood four \
centimetres higher against the iron ruler which the keeper's grandfather had fixed to the rock. The professor wrote a paper \
about it. The keeper received a copy in the post, in a brown envelope, with his own name printed under the title; he read it \
twice, did not understand the second half, and put it between the last two pages of the book.

Then, because it was evening and the sun had almost touched the water, he climbed the hundred and twelve steps again. He lit \
the lamp, waited until it burned without smoke, and started the mechanism. The beam went out across the bay, over the reef \
and the boats and the dark fields behind the town, and came round again after exactly twelve seconds. He counted, as he \
always did. Then he sat down at the table, took up his pen, and wrote: calm, wind from the south-west, one visitor. Light \
good.

If you go there today you will find that the lamp is electric and that nobody lives on the island. A small grey box measures \
the wind, the water and the temperature once a minute and sends them to the mainland by radio. It does not write about the \
births of children, or about honey. But the numbers are kept in the same order as in the old book, and on the first line of \
the first file someone has typed a name."""
