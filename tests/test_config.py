"""Settings of the site and of lists: read, refused with what would be right, shown as they are written."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from kelou import config, listtype
from kelou.i18n import speaking
from kelou.setting import Setting, SettingError, find


def written(folder: Path, text: str) -> Path:
    path = folder / "kelou.toml"
    path.write_text(text, "utf-8")
    return path


def test_a_value_comes_from_the_file_or_is_the_default(tmp_path: Path) -> None:
    """What the file does not say is the default, and the origin tells which."""
    site = config.load(written(tmp_path, '[site]\nname = "Listes"\n'))
    assert (site["site.name"], site["site.language"]) == ("Listes", "fr")
    assert (site.origin("site.name"), site.origin("site.language")) == (str(tmp_path / "kelou.toml"), "default")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[site]\nlanguage = "de"\n', ["site.language", "'de'", "en, fr"]),
        ('[site]\nlangage = "fr"\n', ["site.langage", "site.language"]),
        ("[distribution]\nchunk = 0\n", ["distribution.chunk", "1 or more"]),
        ("[distribution]\nchunk = true\n", ["distribution.chunk", "1 or more"]),
        ('[dns]\ntimeout = "soon"\n', ["dns.timeout", "30s"]),
        ('[postfix]\nreinjection = "here"\n', ["postfix.reinjection", "HOST:PORT"]),
        ("[lists]\npending_subscribers = 3\n", ["lists.pending_subscribers", "yes or no"]),
        ("[site\n", ["kelou.toml"]),
        ("zzzz = 1\n", ["zzzz", "site.name"]),
    ],
)
def test_a_wrong_file_is_refused_with_the_key_and_what_would_be_right(tmp_path: Path, text: str, words: list[str]) -> None:
    """The message names the key and what would be right; an unknown key gets the nearest there is."""
    with speaking("en"), pytest.raises(SettingError) as caught:
        config.load(written(tmp_path, text))
    assert [word for word in words if word not in str(caught.value)] == []


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    """Without a configuration, the admin is told of kelou init."""
    with pytest.raises(SettingError, match="kelou init"):
        config.load(tmp_path / "none.toml")


def test_the_sample_is_a_configuration_with_every_setting(tmp_path: Path) -> None:
    """The sample is valid as it is, and with every comment taken off it holds each setting at its default."""
    for language in ("en", "fr"):
        with speaking(language):
            text = config.sample()
        assert config.load(written(tmp_path, text)).values == {}
        live = "\n".join(line[1:] if line.startswith("#") and not line.startswith("# ") else line for line in text.splitlines())
        assert set(tomllib.loads(live)) == {key.partition(".")[0] for key in config.SETTINGS}
        values = config.load(written(tmp_path, live)).values
        assert values == {key: setting.default for key, setting in config.SETTINGS.items()}


@pytest.mark.parametrize("table", [config.SETTINGS, listtype.SETTINGS], ids=["site", "list"])
def test_what_is_shown_can_be_read(table: dict[str, Setting]) -> None:
    """Each default, shown as an admin writes it, is read as the same value; each has a sentence."""
    for setting in table.values():
        assert setting.read(setting.show(setting.default)) == setting.default, setting.key
        assert setting.help.endswith("."), setting.key


def test_types_set_what_there_is_to_what_may_be() -> None:
    """Every preset names a setting that exists, with a value it takes."""
    for name, preset in listtype.TYPES.items():
        assert name in listtype.TITLES
        for key, value in preset.items():
            assert find(listtype.SETTINGS, key).read(find(listtype.SETTINGS, key).show(value)) == value, (name, key)


@pytest.mark.parametrize(
    ("key", "given", "value"),
    [
        ("max_size", "5M", 5 * 1024**2),
        ("max_size", "300k", 300 * 1024),
        ("max_size", 1000, 1000),
        ("emergency", "oui", True),
        ("emergency", "off", False),
        ("reply_to_address", "Jane@Example.org", "Jane@Example.org"),
        ("refused_types", ".exe, video/*", (".exe", "video/*")),
        ("post", "Moderated", "moderated"),
    ],
)
def test_a_list_setting_reads_what_people_write(key: str, given: Any, value: Any) -> None:
    """Sizes with units, yes in both languages, words in any case."""
    assert listtype.SETTINGS[key].read(given) == value


@pytest.mark.parametrize(
    ("key", "given"),
    [
        ("max_size", "-1"),
        ("max_size", "5 apples"),
        ("max_size", "9" * 40),
        ("post", "nobody"),
        ("reply_to_address", "jane"),
        ("subject_tag", "two\nlines"),
        ("held_for", "0"),
        ("held_for", "59m"),
        ("footer", "\x1b[2J"),
        ("header_rules", "hold X-Mailer: /(/"),
        ("header_rules", "drop X: y"),
        ("emergency", "perhaps"),
    ],
)
def test_a_wrong_list_setting_is_refused(key: str, given: str) -> None:
    """No other exception than the one that names the key."""
    with pytest.raises(SettingError, match=key):
        listtype.SETTINGS[key].read(given)
