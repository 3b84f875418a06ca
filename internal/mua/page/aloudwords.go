package page

// aloudWords are texts for who hears the page, or does not use its shortcuts.
type aloudWords struct{ FoundMore, FetchingOver, Shortcuts, ShortcutsOn, ShortcutsOff, Condition string }

var englishAloud = aloudWords{
	FoundMore:    "and there are more",
	FetchingOver: "Nothing is being fetched any more.",
	Shortcuts:    "Single keys",
	ShortcutsOn:  "are shortcuts",
	ShortcutsOff: "do nothing",
	Condition:    "Condition %s",
}

var polishAloud = aloudWords{
	FoundMore:    "i jest ich więcej",
	FetchingOver: "Nic już nie jest pobierane.",
	Shortcuts:    "Pojedyncze klawisze",
	ShortcutsOn:  "są skrótami",
	ShortcutsOff: "nic nie robią",
	Condition:    "Warunek %s",
}
